"""Scores of reconstructed images against true ones."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from attacks.reconstruction import Reconstruction
from fedlab.metrics.alignment import align
from fedlab.metrics.chance import trivial_guesses
from fedlab.metrics.further import further_values
from fedlab.metrics.images import as_pixels, assign, mismatch
from fedlab.metrics.labels import label_overlap, labels_agree
from fedlab.metrics.learned import learned_features
from fedlab.metrics.metric import Metric, ms_ssim, psnr, registered_psnr, ssim
from fedlab.metrics.public_pool import PublicPool, View, views
from fedlab.metrics.verdict import grade


@dataclass(frozen=True)
class Score:
    """Score of the reconstruction of one true image; NaN where none was reconstructed.

    Attributes:
        image: Index of the true image.
        psnr: PSNR in dB on pixels in [0, 1].
        ssim: Structural similarity, at most 1.
        ms_ssim: Structural similarity over as many scales as fit the image, in [0, 1].
        registered_psnr: PSNR in dB after the best small shift, turn and zoom.
        feature_distance: Squared distance of learned features of length 1, in [0, 4]; NaN without
            public images.
        chance_psnr: Highest of the three baselines that follow, in dB.
        chance_grey: PSNR of the best image of one colour in dB, aligned like the next two.
        chance_class_mean: PSNR of the mean public image of the class in dB; NaN without public
            images.
        chance_nearest: PSNR of the nearest public image of the pool in dB.
        iip: 1 if the true image is the nearest of the pool to the reconstruction, else 0.
        pool: Number of images in the pool: the true one, and at most 99 public ones, of its class
            as far as there are.
        identification: Share of these that are farther from the reconstruction than the true image.
        label_correct: True if the label was recovered; ``None`` without true labels.
        label_accuracy: Share of the batch's labels that was recovered, in any order; NaN without
            true labels.
        verdict: Grade by ``fedlab.metrics.verdict.grade``.
        aligned_psnr: PSNR in dB after the best flip, shift and change of brightness and contrast,
            against the original or what the network saw of it, whichever is closer.
        aligned_to: Which of them it is.
        identified_10: 1 if the true image is the nearest in a pool of 10, else 0.
        p_value: Probability that a guess identifies the image as well: by rank in pixels, or in
            structure and learned features both, among the images of its class.
        alike: Number of images of the pool that have the class of the true image, which is counted.
        extra: Values of further metrics by column.
    """

    image: int
    psnr: float
    ssim: float
    ms_ssim: float
    registered_psnr: float
    feature_distance: float
    chance_psnr: float
    chance_grey: float
    chance_class_mean: float
    chance_nearest: float
    iip: float
    pool: int
    identification: float
    label_correct: bool | None
    label_accuracy: float
    verdict: str
    aligned_psnr: float = math.nan
    aligned_to: str = ""
    identified_10: float = math.nan
    p_value: float = math.nan
    alike: int = 1
    extra: dict[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Values by column; further metrics come last."""
        values = asdict(self)
        extra: dict[str, Any] = values.pop("extra")
        return values | extra


@dataclass(frozen=True)
class _Judgement:
    """What the grade of one image is made of; ``Score`` explains the values."""

    aligned_psnr: float = math.nan
    aligned_to: str = ""
    feature_distance: float = math.nan
    chance_grey: float = math.nan
    chance_class_mean: float = math.nan
    chance_nearest: float = math.nan
    iip: float = 0.0
    identified_10: float = 0.0
    identification: float = 0.0
    pool: int = 1
    p_value: float = math.nan
    alike: int = 1

    @property
    def chance_psnr(self) -> float:
        """The highest of the guesses that there are."""
        guesses = (self.chance_grey, self.chance_class_mean, self.chance_nearest)
        return max(guess for guess in guesses if not math.isnan(guess))

    @property
    def columns(self) -> dict[str, Any]:
        """The values by the column of a score."""
        return asdict(self) | {"chance_psnr": self.chance_psnr}


def judge(
    looks: Sequence[View],
    guess: Tensor,
    *,
    mean: Tensor | None,
    alike: Tensor,
    network: nn.Module | None,
) -> _Judgement:
    """Compare one reconstruction with its true image, with chance, and with the pool.

    Args:
        looks: Ways to look at the true image and at the public ones.
        guess: ``[channels, height, width]``, the reconstruction; NaN if there is none.
        mean: Mean public image of the class; ``None`` without public images.
        alike: bool ``[m]``, public images of the pool that have the class of the true image.
        network: Network of learned features; ``None`` without public images.
    """
    chance = torch.full((len(alike) + 2,), -torch.inf, dtype=torch.float64)
    for look in looks:
        guesses = [_flat(look), look.true if mean is None else mean]
        public = torch.cat([torch.stack(guesses).to(look.true), looks[0].others])
        level = align(look.true, public, visible=look.visible, adjust_many=True).psnr
        chance = torch.maximum(chance, level)
    grey, average = float(chance[0]), math.nan if mean is None else float(chance[1])
    nearest = float(chance[2:].max()) if len(alike) else math.nan
    found = _Judgement(
        chance_grey=grey,
        chance_class_mean=average,
        chance_nearest=nearest,
        pool=len(alike) + 1,
        alike=int(alike.sum()) + 1,
    )
    if guess.isnan().any():
        return found
    pools = [torch.cat([look.true.unsqueeze(0), look.others]) for look in looks]
    fits = [
        align(guess, pool, visible=look.visible) for look, pool in zip(looks, pools, strict=True)
    ]
    levels = torch.stack([fit.psnr for fit in fits])
    best = levels.argmax(0)
    quality = levels.amax(0)
    place = int(best[0])
    mirrored = "mirrored " * bool(fits[place].mirrored[0])
    found = replace(found, aligned_psnr=float(quality[0]), aligned_to=mirrored + looks[place].name)
    if not len(alike) or network is None:
        return found
    # Each image of the pool is looked at in the way that is closest to the reconstruction.
    every = torch.arange(len(quality))
    pool = torch.stack(pools)[best, every]
    structure = ssim(pool.float(), torch.stack([fit.images for fit in fits])[best, every].float())
    features = learned_features(network, torch.cat([guess.unsqueeze(0).to(pool), pool]))
    distance = (features[:1] - features[1:]).square().sum(1).double()
    return replace(
        found,
        feature_distance=float(distance[0]),
        iip=float(quality[0] > quality[1:].max()),
        identified_10=float(quality[0] > quality[1:10].max()),
        identification=float((quality[0] > quality[1:]).double().mean()),
        p_value=min(
            _rank_p(quality, alike),
            max(_rank_p(structure, alike), _rank_p(-distance, alike)),
        ),
    )


def _rank_p(closeness: Tensor, alike: Tensor) -> float:
    """Probability that the first of exchangeable images is as close as it is, by its rank."""
    others = closeness[1:][alike]
    return (1 + int((others >= closeness[0]).sum())) / (1 + len(others))


def _flat(look: View) -> Tensor:
    """The best image of one colour: the mean colour of what is visible of the true image."""
    pixels = look.true.flatten(1)
    if look.visible is not None:
        pixels = pixels[:, look.visible.flatten()]
    return pixels.mean(1).view(-1, 1, 1).expand_as(look.true)


def score(
    truth: Tensor,
    rebuilt: Tensor,
    *,
    pool: PublicPool | None,
    labels: Tensor | None,
    recovered: Tensor | None,
    classes: Tensor | None = None,
    seen: Tensor | None = None,
    parts: int = 1,
    metrics: Sequence[Metric] = (),
    power: float = math.nan,
) -> tuple[Score, ...]:
    """Score reconstructed images against the true images at the same index.

    Args:
        truth: ``[n, channels, height, width]``, true images, pixels in [0, 1].
        rebuilt: ``[n, channels, height, width]``, reconstructed images; NaN where one is missing.
        pool: Public images; ``None`` if there are none, and every grade is ``inconclusive``.
        labels: int64 ``[n]`` or soft ``[n, classes]``, true labels; ``None`` if unknown.
        recovered: Recovered labels, -1 where an image is missing; ``None`` with unknown labels.
        classes: int64 ``[n]``, class of the public images of each pool; ``labels`` by default.
        seen: Inputs of the network where they were changed versions of ``truth``.
        parts: Number of images in each true one. If several, as in a mixture, the public images
            of a pool are mixtures of as many.
        metrics: Further metrics.
        power: Power of the attack in [0, 1]; NaN if it was not measured.

    Raises:
        ValueError: If shapes do not fit each other.
        PluginFailed: If a further metric fails.
    """
    quality = psnr(truth, rebuilt)
    classes = labels if classes is None else classes
    judged: list[_Judgement] = []
    guesses: list[Tensor] = []
    for index in range(len(truth)):
        true, guess = truth[index].cpu(), rebuilt[index].cpu()
        own = None if seen is None else seen[index].cpu()
        others, alike = true.new_zeros(0, *true.shape), torch.zeros(0, dtype=torch.bool)
        mean = network = None
        if pool is not None:
            label = None if classes is None else int(classes[index])
            others, alike = pool.others((true,) if own is None else (true, own), label)
            mean, network = pool.mean(label), pool.network
            if labels is not None and labels.ndim == 2:
                mean = pool.mixed_mean(labels[index].cpu())
            if parts > 1:
                turns = [others.roll(step, 0) for step in range(parts)]
                others = torch.stack(turns).mean(0)
            guesses.append(trivial_guesses(true, others[alike], mean, seed=pool.seed))
        looks = views(true, own, others)
        judged.append(judge(looks, guess, mean=mean, alike=alike, network=network))
    columns = {
        "psnr": quality,
        "ssim": ssim(truth, rebuilt),
        "ms_ssim": ms_ssim(truth, rebuilt),
        "registered_psnr": registered_psnr(truth, rebuilt),
    }
    further = further_values(metrics, truth, rebuilt, guesses)
    correct = None if labels is None or recovered is None else labels_agree(recovered, labels)
    overlap = torch.nan if labels is None or recovered is None else label_overlap(recovered, labels)
    return tuple(
        Score(
            image=index,
            **each.columns,
            **_at(index, columns),
            label_correct=None if correct is None else bool(correct[index]),
            label_accuracy=overlap,
            verdict=grade(
                psnr=each.aligned_psnr,
                chance_psnr=math.nan if pool is None else each.chance_psnr,
                nearest=bool(each.iip),
                p_value=each.p_value,
                power=power,
            ),
            extra=_at(index, further),
        )
        for index, each in enumerate(judged)
    )


def _at(index: int, columns: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: float(values[index]) for name, values in columns.items()}


def matched(truth: Tensor, found: Reconstruction) -> tuple[Tensor, Tensor]:
    """Pair reconstructed images with true ones, one to one, by their error after alignment.

    Plain errors pair mirrored or shifted images of a batch with the wrong ones.

    Args:
        truth: ``[n, channels, height, width]``, true images, pixels in [0, 1].
        found: Result of an attack.

    Returns:
        Images ``[n, channels, height, width]`` and labels in the order of the true images; NaN and
        -1 where no reconstructed image is left.
    """
    images = found.images.to(truth.device)
    labels = found.labels.to(truth.device)
    if images.shape[1:] != truth.shape[1:]:
        raise ValueError(mismatch(truth, images))
    errors = [10 ** (-align(image, truth).psnr / 10) for image in images]
    places, chosen = assign(torch.stack(errors, 1).nan_to_num(nan=1e3))
    rebuilt = torch.full_like(truth, torch.nan)
    recovered = labels.new_full((len(truth), *labels.shape[1:]), -1)
    rebuilt[places], recovered[places] = images[chosen], labels[chosen]
    return rebuilt, recovered


@dataclass(frozen=True)
class ImageScores:
    """Scores of one reconstruction.

    Attributes:
        images: One score for each true image.
        rebuilt: float32 ``[n, channels, height, width]``, in the order of the true images.
    """

    images: tuple[Score, ...]
    rebuilt: Tensor = field(repr=False)

    def table(self) -> pd.DataFrame:
        """The scores as a table, one row for each true image."""
        return pd.DataFrame([score.row() for score in self.images])


def score_images(
    found: Reconstruction,
    truth: Tensor,
    *,
    labels: Sequence[int] | Tensor | None = None,
    public: tuple[Tensor, Tensor] | None = None,
    metrics: Sequence[Metric] = (),
) -> ImageScores:
    """Score a reconstruction against the true images, paired one to one.

    Args:
        found: Result of an attack; with a power below one half no image is ``not shown``.
        truth: ``[n, channels, height, width]``, true images, uint8, or pixels in [0, 1]; not
            normalised.
        labels: int64 ``[n]``, labels of the true images; ``None`` if unknown.
        public: Public images like ``truth`` and their int64 labels, none of them a true image. They
            give chance and the pool for identification; without them every grade is
            ``inconclusive``.
        metrics: Further metrics, each one more column.

    Raises:
        ValueError: If shapes or numbers do not fit each other.

    Example::

        facts = {"shape": (1, 8, 8), "classes": 10, "mean": (0.3,), "std": (0.4,)}
        found = observed.reconstruct(round=1, client=0, model=Net(), **facts)
        print(fedlab.score_images(found, images, labels=labels).table())
    """
    true = as_pixels(truth).cpu()
    known = None if labels is None else torch.as_tensor(labels).cpu()
    if known is not None and len(known) != len(true):
        raise ValueError(f"{len(known)} labels were given for {len(true)} images")
    rebuilt, recovered = matched(true, found)
    pool = None
    if public is not None:
        pool = PublicPool(public[0].cpu(), torch.as_tensor(public[1]).cpu(), seed=0)
    scores = score(
        true,
        rebuilt,
        pool=pool,
        labels=known,
        recovered=recovered,
        metrics=metrics,
        power=found.power,
    )
    return ImageScores(scores, rebuilt)
