"""Scores of reconstructed images against true ones."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from attacks.reconstruction import Reconstruction
from fedlab.metrics.chance import ChanceBaselines, baselines
from fedlab.metrics.features import feature_distance
from fedlab.metrics.images import as_pixels, identification_auc, identified, match
from fedlab.metrics.labels import label_overlap, labels_agree
from fedlab.metrics.metric import Metric, ms_ssim, psnr, registered_psnr, ssim
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
        feature_distance: Mean squared difference of a network's last features; NaN without a
            network.
        chance_psnr: Highest of the three baselines that follow, in dB.
        chance_grey: PSNR of a mid-grey image in dB.
        chance_class_mean: PSNR of the mean public image of the class in dB; NaN without public
            images.
        chance_nearest: PSNR of the nearest other image of the pool in dB.
        iip: 1 if the true image is the nearest of the pool to the reconstruction, else 0.
        pool: Number of images in the pool: those with the same label, or all without labels.
        identification: Share of them that are farther from the reconstruction than the true image.
        label_correct: True if the label was recovered; ``None`` without true labels.
        label_accuracy: Share of the batch's labels that was recovered, in any order; NaN without
            true labels.
        verdict: ``leaks`` or ``not shown``.
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
    extra: dict[str, float] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Values by column; further metrics come last."""
        values = asdict(self)
        extra: dict[str, Any] = values.pop("extra")
        return values | extra


def score(
    truth: Tensor,
    rebuilt: Tensor,
    *,
    pool: Tensor,
    own: Tensor,
    candidates: Tensor,
    chance: ChanceBaselines,
    labels: Tensor | None,
    recovered: Tensor | None,
    network: nn.Module | None = None,
    metrics: Sequence[Metric] = (),
) -> tuple[Score, ...]:
    """Score reconstructed images against the true images at the same index.

    Args:
        truth: ``[n, channels, height, width]``, true images, pixels in [0, 1].
        rebuilt: ``[n, channels, height, width]``, reconstructed images; NaN where one is missing.
        pool: uint8 or float, images among which the true one is to be identified.
        own: int64 ``[n]``, index of each true image in the pool.
        candidates: bool ``[n, pool]``, images of the pool that count for each true image.
        chance: Baselines of each true image.
        labels: int64 ``[n]`` or soft ``[n, classes]``, true labels; ``None`` if unknown.
        recovered: Recovered labels, -1 where an image is missing; ``None`` with unknown labels.
        network: Network on pixels in [0, 1] for the feature distance; ``None`` leaves it out.
        metrics: Further metrics.

    Raises:
        ValueError: If shapes do not fit each other.
        PluginFailed: If a further metric fails.
    """
    quality = psnr(truth, rebuilt)
    hits = identified(own, rebuilt, pool, candidates=candidates)
    columns: dict[str, Tensor] = {
        "psnr": quality,
        "ssim": ssim(truth, rebuilt),
        "ms_ssim": ms_ssim(truth, rebuilt),
        "registered_psnr": registered_psnr(truth, rebuilt),
        "feature_distance": torch.full_like(quality, torch.nan)
        if network is None
        else feature_distance(network, truth, rebuilt),
        "chance_psnr": chance.best,
        "chance_grey": chance.grey,
        "chance_class_mean": chance.class_mean,
        "chance_nearest": chance.nearest_other,
        "iip": hits.float(),
        "identification": identification_auc(own, rebuilt, pool, candidates=candidates),
    }
    further = {each.column: each(truth, rebuilt) for each in metrics}
    correct = None if labels is None or recovered is None else labels_agree(recovered, labels)
    overlap = torch.nan if labels is None or recovered is None else label_overlap(recovered, labels)
    return tuple(
        Score(
            image=index,
            **{name: float(values[index]) for name, values in columns.items()},
            pool=int(candidates[index].sum()),
            label_correct=None if correct is None else bool(correct[index]),
            label_accuracy=overlap,
            verdict=grade(
                psnr=float(quality[index]),
                chance_psnr=float(chance.best[index]),
                nearest=bool(hits[index]),
            ),
            extra={name: float(values[index]) for name, values in further.items()},
        )
        for index in range(len(truth))
    )


def matched(truth: Tensor, found: Reconstruction) -> tuple[Tensor, Tensor]:
    """Pair reconstructed images with true ones, one to one.

    Args:
        truth: ``[n, channels, height, width]``, true images, pixels in [0, 1].
        found: Result of an attack.

    Returns:
        Images ``[n, channels, height, width]`` and labels in the order of the true images; NaN and
        -1 where no reconstructed image is left.
    """
    images = found.images.to(truth.device)
    labels = found.labels.to(truth.device)
    places, chosen = match(truth, images)
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
        found: Result of an attack.
        truth: ``[n, channels, height, width]``, true images, uint8, or pixels in [0, 1]; not
            normalised.
        labels: int64 ``[n]``, labels of the true images; ``None`` if unknown.
        public: Public images like ``truth`` and their int64 labels. They give the mean image of
            each class as a baseline, which needs the true labels as well.
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
    own = torch.arange(len(true))
    everything = torch.ones(len(true), len(true), dtype=torch.bool)
    scores = score(
        true,
        rebuilt,
        pool=true,
        own=own,
        candidates=everything if known is None else known.unsqueeze(1) == known,
        chance=_chance(true, known, public),
        labels=known,
        recovered=recovered,
        metrics=metrics,
    )
    return ImageScores(scores, rebuilt)


def _chance(
    true: Tensor, labels: Tensor | None, public: tuple[Tensor, Tensor] | None
) -> ChanceBaselines:
    """The baselines that are defined; the class mean is NaN without public images."""
    if public is not None and labels is None:
        raise ValueError("the mean image of a class needs the true labels")
    one_class = torch.zeros(len(true), dtype=torch.int64)
    images, classes = (true, one_class) if public is None else public
    found = baselines(
        true,
        one_class if labels is None or public is None else labels,
        reference_images=images,
        reference_labels=classes,
        pool=true,
        own=torch.arange(len(true)),
    )
    if public is not None:
        return found
    missing = torch.full_like(found.grey, torch.nan)
    return ChanceBaselines(found.grey, missing, found.nearest_other)
