"""Public images that a reconstruction has to exceed, and among which a true image is identified."""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from fedlab.core.seeds import generator
from fedlab.metrics.alignment import shifted
from fedlab.metrics.chance import class_means
from fedlab.metrics.images import as_pixels
from fedlab.metrics.learned import feature_network

OTHERS = 99
"""Number of public images in a pool; with the true image they are 100."""

DUPLICATE = 30.0
"""Least PSNR in dB between a true and a public image, plain or mirrored, of duplicates. They are
left out of the pool: a root mean squared error of 8 grey levels is no other image."""

# A pool is chosen from four times its images, so that duplicates can be replaced.
_CONSIDERED = 4 * OTHERS
# A change with fewer unchanged pixels is no crop or mask.
_LEAST_VISIBLE = 0.25
_FARTHEST = 8
_EQUAL = 1e-3  # less than one of 255 grey levels


@dataclass(frozen=True)
class View:
    """One way to look at a true image and, alike, at the public images of its pool.

    Attributes:
        name: ``original``, ``seen``, or ``visible`` for the unchanged pixels of what was seen.
        true: float32 ``[channels, height, width]``, pixels in [0, 1].
        others: float32 ``[m, channels, height, width]``, the public images.
        visible: bool ``[height, width]``, pixels that count; ``None`` for all.
    """

    name: str
    true: Tensor
    others: Tensor
    visible: Tensor | None = None


@dataclass(frozen=True)
class PublicPool:
    """Public images in a random order that the seed gives.

    Neither the images nor their order depend on a client, so neither does the level of chance.

    Attributes:
        images: uint8 or float ``[m, channels, height, width]``, at least one.
        labels: int64 ``[m]``.
        seed: Root seed; the order is drawn from it for this purpose alone.
    """

    images: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    seed: int

    @cached_property
    def _order(self) -> Tensor:
        draws = generator(self.seed, "public pool")
        return torch.randperm(len(self.images), generator=draws)

    @cached_property
    def means(self) -> Tensor:
        """The mean image of each class, float32 ``[classes, channels, height, width]``."""
        return class_means(self.images, self.labels, classes=int(self.labels.max()) + 1)

    @cached_property
    def network(self) -> nn.Module:
        """The network of learned features."""
        return feature_network(as_pixels(self.images[self._order]), self.seed)

    def mean(self, label: int | None) -> Tensor:
        """The mean image of a class; the mean of all images if it is unknown or has none."""
        if label is None or label >= len(self.means):
            return class_means(self.images, torch.zeros_like(self.labels), classes=1)[0]
        return self.means[label]

    def mixed_mean(self, shares: Tensor) -> Tensor:
        """The mean images of the classes, mixed like soft labels ``[classes]``."""
        means = torch.stack([self.mean(label) for label in range(len(shares))])
        return torch.einsum("c,c...->...", shares.float() / shares.float().sum(), means)

    def of_class(self, label: int, *, most: int) -> Tensor:
        """The first images of a class, float32, pixels in [0, 1]; of all classes if it has none."""
        own = self.labels[self._order] == label
        chosen = self._order[own] if bool(own.any()) else self._order
        return as_pixels(self.images[chosen[:most]])

    def others(self, true: tuple[Tensor, ...], label: int | None) -> tuple[Tensor, Tensor]:
        """The public images of the pool of a true image.

        Those of its class come first, then others in their order, without duplicates.

        Args:
            true: Versions of the true image, each ``[channels, height, width]``.
            label: Class of the image; ``None`` if unknown.

        Returns:
            At most 99 images, float32, pixels in [0, 1], and whether each is of the class; all are
            for an unknown class.
        """
        order = self._order
        same = torch.ones(len(order), dtype=torch.bool)
        if label is not None:
            same = self.labels[order] == label
        first = torch.cat([order[same], order[~same]])[:_CONSIDERED]
        images = as_pixels(self.images[first])
        twins = torch.zeros(len(first), dtype=torch.bool)
        for version in true:
            for each in (version, version.flip(-1)):
                error = (images - each.float()).square().flatten(1).mean(1)
                twins |= error <= 10 ** (-DUPLICATE / 10)
        kept = (~twins).nonzero().squeeze(1)[:OTHERS]
        alike = torch.arange(len(first)) < int(same.sum())
        return images[kept], alike[kept]


def views(original: Tensor, seen: Tensor | None, others: Tensor) -> tuple[View, ...]:
    """Ways to look at a true image: as it was, as the network saw it, and what of it was visible.

    A flip, shift or mask is recognised by the pixels that it left unchanged, and the public images
    are changed alike: what was cropped or masked has the pixels of the image that was seen.

    Args:
        original: ``[channels, height, width]``, pixels in [0, 1].
        seen: Input of the network, of the same shape; ``None`` if it was the original.
        others: ``[m, channels, height, width]``, public images.
    """
    plain = View("original", original, others)
    if seen is None or torch.equal(seen, original):
        return (plain,)
    height, width = original.shape[-2:]
    rows, columns = (min(side // 4, _FARTHEST) for side in (height, width))
    best, kept = (False, 0, 0), torch.zeros(height, width, dtype=torch.bool)
    for flip in (False, True):
        for row in range(-rows, rows + 1):
            tried = [(flip, row, column) for column in range(-columns, columns + 1)]
            same = ((shifted(original, tried) - seen).abs() < _EQUAL).all(1)
            most = int(same.sum((1, 2)).argmax())
            if same[most].sum() > kept.sum():
                best, kept = tried[most], same[most]
    if kept.float().mean() < _LEAST_VISIBLE:
        return plain, View("seen", seen, others)
    changed = torch.where(kept, shifted(others, [best])[0], seen)
    return plain, View("seen", seen, changed), View("visible", seen, changed, kept)
