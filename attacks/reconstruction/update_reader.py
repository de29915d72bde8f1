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

    The gradient of a last linear layer is the outer product of its input and of what its bias gets,
    for each image. That input, in the mean of the images, is read as well: to find the rows of the
    right class in a list and to divide them is hard to learn for a network.

    Attributes:
        places: int64 ``[rows, bins]``, the entries of each bin.
        signs: float32 ``[rows, bins]``, -1 or 1; 0 for a place that no entry fills.
        classes: Number of classes if labels are read as well, else 0.
        features: Number of inputs of the last layer; 0 if it is not linear with a bias.
    """

    places: Tensor = field(repr=False)
    signs: Tensor = field(repr=False)
    classes: int = 0
    features: int = 0

    @classmethod
    def of(
        cls,
        update: Mapping[str, Tensor],
        *,
        generator: torch.Generator,
        classes: int = 0,
        bins: int = SKETCH,
    ) -> "UpdateReader":
        """Draw the bins and signs.

        Args:
            update: An update of the kind to read, of which the shapes are used.
            generator: CPU generator of bins and signs.
            classes: Number of classes if labels are known to the attacker, else 0.
            bins: Largest number of bins, at least 1.
        """
        entries = sum(tensor.numel() for tensor in update.values())
        bins = min(bins, entries)
        rows = -(-entries // bins)
        order = torch.randperm(entries, generator=generator)
        signs = 2.0 * torch.randint(2, (entries,), generator=generator) - 1
        empty = (0, rows * bins - entries)
        head = _last_layer(update)
        return cls(
            places=pad(order, empty).view(rows, bins),
            signs=pad(signs, empty).view(rows, bins),
            classes=classes,
            features=0 if head is None else head[0].shape[1],
        )

    @property
    def entries(self) -> int:
        """Number of entries of an update."""
        return int(self.signs.count_nonzero())

    @property
    def groups(self) -> tuple[int, ...]:
        """Sizes of the parts of the vector: lengths and shares of classes, features, bins."""
        return 1 + bool(self.features) + self.classes, self.features, self.signs.shape[1]

    def __call__(self, update: Mapping[str, Tensor], labels: Tensor | None) -> Tensor:
        """Read an update.

        Args:
            update: Gradient, or weights before minus weights after training, by parameter name.
            labels: int64 ``[n]`` or soft ``[n, classes]``; read if ``classes`` is above 0.

        Returns:
            float32 ``[sum of groups]`` on the device of the update: the logarithms of the lengths
            of the update and of the features, the shares of the classes, and features and bins at
            length 1.

        Raises:
            ValueError: If the update is not finite or of another network, or labels are missing.
        """
        flat = torch.cat([tensor.detach().float().flatten() for tensor in update.values()])
        if len(flat) != self.entries:
            raise ValueError(
                f"the attack was trained on updates of {self.entries:,} entries, but this one has "
                f"{len(flat):,}"
            )
        if not flat.isfinite().all():
            raise ValueError("the update is not finite, so nothing can be read from it")
        device = flat.device
        flat, length = _at_length_1(flat)
        lengths, features = [length], flat.new_zeros(0)
        if (head := _last_layer(update)) is not None:
            weight, bias = (tensor.detach().double() for tensor in head)
            # Least squares for weight = bias x features, but for the length of the bias.
            features, length = _at_length_1((bias / _at_length_1(bias)[1].exp()) @ weight)
            lengths.append(length - _at_length_1(bias)[1])
        shares = []
        if self.classes:
            if labels is None:
                raise ValueError("the attack was trained with known labels, but they are unknown")
            soft = labels if labels.is_floating_point() else one_hot(labels, self.classes)
            shares.append(soft.to(device).float().mean(0))
        sketch = (flat[self.places.to(device)] * self.signs.to(device)).sum(0)
        return torch.cat(
            [
                torch.stack(lengths).float(),
                *shares,
                features.float(),
                sketch / math.sqrt(len(self.places)),
            ]
        )


def _at_length_1(vector: Tensor) -> tuple[Tensor, Tensor]:
    """A vector at length 1, and the logarithm of its length."""
    # A network that is sure of its images may send zeros.
    length = vector.double().norm().clamp(min=SHORTEST)
    return (vector / length).to(vector), length.log()


def _last_layer(update: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    """Weight and bias of the last layer, if it is linear with a bias."""
    last = list(update.values())[-2:]
    if len(last) == 2 and last[0].ndim == 2 and last[1].shape == last[0].shape[:1]:
        return last[0], last[1]
    return None
