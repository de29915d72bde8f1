"""Hold rebuilt images against true ones, where somebody has them: in an experiment."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import pandas as pd
import torch
from torch import Tensor

from attacks.reconstruction import Reconstruction
from fedlab.metrics.chance import baselines
from fedlab.metrics.images import as_pixels, match, psnr
from fedlab.metrics.similarity import ssim


@dataclass(frozen=True)
class ImageScore:
    """What was rebuilt of one true image; NaN where nothing was.

    Attributes:
        image: Its place among the true ones.
        psnr: dB on pixels in [0, 1].
        ssim: Structural similarity, at most 1.
        chance_psnr: dB of the best guess that saw no update: mid-grey, the nearest other true
            image and, where there are public images, the mean of its class.
        label_correct: Whether the label was recovered; ``None`` where the true one is not known.
    """

    image: int
    psnr: float
    ssim: float
    chance_psnr: float
    label_correct: bool | None


@dataclass(frozen=True)
class ImageScores:
    """Scores of one reconstruction.

    Attributes:
        images: One for each true image.
        rebuilt: float32 ``[n, channels, height, width]``, in the order of the true images.
    """

    images: tuple[ImageScore, ...]
    rebuilt: Tensor = field(repr=False)

    def table(self) -> pd.DataFrame:
        """The scores as a table."""
        return pd.DataFrame([asdict(score) for score in self.images])


def score_images(
    found: Reconstruction,
    truth: Tensor,
    *,
    labels: Sequence[int] | Tensor | None = None,
    public: tuple[Tensor, Tensor] | None = None,
) -> ImageScores:
    """Score a reconstruction against the true images, paired one to one.

    Args:
        found: What an attack returned.
        truth: ``[n, channels, height, width]``, uint8, or pixels in [0, 1]; not normalised.
        labels: int64 ``[n]``, of the true images.
        public: Images like ``truth`` and their int64 labels, which a guesser may hold: they give
            the mean of each class, which takes the true labels as well.

    Raises:
        ValueError: If shapes or numbers do not fit each other.

    Example::

        found = observed.reconstruct(round=1, client=0, model=Net(), shape=(1, 8, 8), classes=10)
        print(fedlab.score_images(found, images, labels=labels).table())
    """
    true = as_pixels(truth).cpu()
    known = None if labels is None else torch.as_tensor(labels).cpu()
    if known is not None and len(known) != len(true):
        raise ValueError(f"{len(known)} labels were given for {len(true)} images")
    places, chosen = match(true, found.images.cpu())
    rebuilt = torch.full_like(true, torch.nan)
    rebuilt[places] = found.images.cpu()[chosen]
    chance = _chance(true, known, public)
    hard = found.labels.argmax(1) if found.labels.is_floating_point() else found.labels
    guessed = dict(zip(places.tolist(), hard.cpu()[chosen].tolist(), strict=True))
    quality, likeness = psnr(true, rebuilt), ssim(true, rebuilt)
    return ImageScores(
        tuple(
            ImageScore(
                image=place,
                psnr=float(quality[place]),
                ssim=float(likeness[place]),
                chance_psnr=float(chance[place]),
                label_correct=None if known is None else guessed.get(place) == int(known[place]),
            )
            for place in range(len(true))
        ),
        rebuilt,
    )


def _chance(true: Tensor, labels: Tensor | None, public: tuple[Tensor, Tensor] | None) -> Tensor:
    """float64 ``[n]``, the best of those baselines that can be worked out."""
    if public is not None and labels is None:
        raise ValueError("the mean image of a class says nothing without the true labels")
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
    return torch.maximum(found.grey, found.nearest_other) if public is None else found.best
