"""Numbers of one length that stand for an update of any size, for a network to read.

Signed feature hashing (Weinberger et al. 2009, arXiv 0902.2206): every entry of an update belongs
to one bin, and a bin is the sum of its entries under random signs, so that inner products of
updates are kept on average.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

SKETCH = 4_096
"""Largest number of bins. An update with fewer entries has a bin for each, and loses nothing."""

SHORTEST = 1e-30
"""Least length of an update, in place of 0."""


@dataclass(frozen=True)
class UpdateReader:
    """Turns an update, and labels where they are known, into a vector.

    All bins have equally many entries, so independent noise on the entries is equally strong in all
    of them. Their sums are divided by the square root of that number, and the noise keeps its size.

    Attributes:
        places: int64 ``[rows, bins]``, the entries of each bin.
        signs: float32 ``[rows, bins]``, -1 or 1; 0 for a place that no entry fills.
        classes: Number of classes if labels are read as well, else 0.
    """

    places: Tensor = field(repr=False)
    signs: Tensor = field(repr=False)
    classes: int = 0

    @classmethod
    def of(
        cls, entries: int, *, generator: torch.Generator, classes: int = 0, bins: int = SKETCH
    ) -> "UpdateReader":
        """Draw the bins and signs.

        Args:
            entries: Number of entries of an update, at least 1.
            generator: CPU generator of bins and signs.
            classes: Number of classes if labels are known to the attacker, else 0.
            bins: Largest number of bins, at least 1.
        """
        bins = min(bins, entries)
        rows = -(-entries // bins)
        order = torch.randperm(entries, generator=generator)
        signs = 2.0 * torch.randint(2, (entries,), generator=generator) - 1
        empty = (0, rows * bins - entries)
        return cls(pad(order, empty).view(rows, bins), pad(signs, empty).view(rows, bins), classes)

    @property
    def entries(self) -> int:
        """Number of entries of an update."""
        return int(self.signs.count_nonzero())

    @property
    def few(self) -> int:
        """Number of values beside the bins: the length of the update, and the share of each class.

        They are the first of the vector.
        """
        return 1 + self.classes

    def __call__(self, update: Mapping[str, Tensor], labels: Tensor | None) -> Tensor:
        """Read an update.

        Args:
            update: Gradient, or weights before minus weights after training, by parameter name.
            labels: int64 ``[n]`` or soft ``[n, classes]``; read if ``classes`` is above 0.

        Returns:
            float32 ``[few + bins]`` on the device of the update: the logarithm of its length, the
            shares of the classes, and the bins of the update at length 1.

        Raises:
            ValueError: If the update is not finite or of another network, or labels are missing.
        """
        flat = torch.cat([tensor.detach().float().flatten() for tensor in update.values()])
        length = float(flat.double().norm())
        if not math.isfinite(length):
            raise ValueError("the update is not finite, so nothing can be read from it")
        if len(flat) != self.entries:
            raise ValueError(
                f"the attack was trained on updates of {self.entries:,} entries, but this one has "
                f"{len(flat):,}"
            )
        # A network that is sure of its images may send zeros, which are as long as this.
        length = max(length, SHORTEST)
        device = flat.device
        sketch = (flat[self.places.to(device)] * self.signs.to(device)).sum(0)
        parts = [torch.tensor([math.log(length)], device=device)]
        if self.classes:
            if labels is None:
                raise ValueError("the attack was trained with known labels, but they are unknown")
            soft = labels if labels.is_floating_point() else one_hot(labels, self.classes)
            parts.append(soft.to(device).float().mean(0))
        return torch.cat([*parts, sketch / (length * math.sqrt(len(self.places)))])
