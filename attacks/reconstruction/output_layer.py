"""Facts about a classifier's last layer from which label rules infer labels.

With mean cross-entropy the gradient of the last layer's weights is (1/B) sum_j (p_j - y_j) h_j^T,
and that of its bias (1/B) sum_j (p_j - y_j): softmax outputs p, labels y and input features h.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional


class NothingToInfer(ValueError):
    """The gradient says nothing about labels, so that they can only be guessed."""


@dataclass(frozen=True)
class Outputs:
    """Outputs of the network at the client's weights for images that the attacker has.

    Attributes:
        probabilities: float ``[m, classes]``, softmax outputs.
        features: float ``[m, features]``, inputs of the last layer; ``None`` if it is not linear.
        labels: int64 ``[m]``, labels of the images; the most probable class where unknown.
        labelled: True if the labels are known.
    """

    probabilities: Tensor = field(repr=False)
    features: Tensor | None = field(default=None, repr=False)
    labels: Tensor = field(default_factory=lambda: torch.zeros(0), repr=False)
    labelled: bool = False

    @property
    def mean(self) -> Tensor:
        """Mean output of all images, float ``[classes]``."""
        return self.probabilities.mean(0)

    @property
    def by_class(self) -> Tensor:
        """Mean output of the images of each class, float ``[classes, classes]``.

        Classes without images, and all classes without labels, have the mean of all images.
        """
        classes = self.probabilities.shape[1]
        if not self.labelled:
            return self.mean.expand(classes, -1)
        member = functional.one_hot(self.labels, classes).to(self.probabilities)
        size = member.sum(0).unsqueeze(1)
        means = member.T @ self.probabilities / size.clamp(min=1)
        return torch.where(size > 0, means, self.mean)

    def part(self, places: Tensor) -> "Outputs":
        """The outputs of some of the images.

        Args:
            places: int64, indices of the images.
        """
        features = None if self.features is None else self.features[places]
        return Outputs(self.probabilities[places], features, self.labels[places], self.labelled)


@dataclass(frozen=True)
class OutputLayer:
    """Gradient of a classifier's last layer, and what is known about the layer.

    Attributes:
        signal: float ``[classes]``, the bias gradient, or the row sums of the weight gradient.
        has_bias: True if ``signal`` is the bias gradient.
        weight: float ``[classes, features]``, the weight gradient; ``None`` if only a bias exists.
        weights: float ``[classes, features]``, weights of the layer, of which the client's local
            steps have about the same; ``None`` if unknown.
        bias: float ``[classes]``, bias of the layer, likewise; ``None`` if unknown.
        outputs: Outputs for public images; ``None`` if there are none.
        certain: True if a negative bias gradient proves that its class is in the batch: there is no
            noise, no mixing of labels, and no weight decay over several steps.
        plain: True if no noise, clipping or mixing changes the gradient of the batch, which is an
            average over local steps.
        rounding: Rounding error of the gradient as a share of its largest entry; 0 for a gradient,
            whose entries are rounded relative to their own size.
        noise: Standard deviation of the noise on each entry of the gradient.
    """

    signal: Tensor
    has_bias: bool
    weight: Tensor | None
    weights: Tensor | None = field(default=None, repr=False)
    bias: Tensor | None = field(default=None, repr=False)
    outputs: Outputs | None = field(default=None, repr=False)
    certain: bool = True
    plain: bool = False
    rounding: float = 0.0
    noise: float = 0.0

    def present(self, num_images: int) -> Tensor:
        """Classes that are certainly in the batch, bool ``[classes]``.

        Only an image of class c has p_c - y_c < 0, so a negative bias gradient proves class c. If
        the features of all public images are at least 0, as after a ReLU or a sigmoid, so does
        any negative entry of its row of weights. If more classes than images seem to be there, the
        assumption is wrong, and only the most negative ones count.

        Args:
            num_images: Number of images in the batch.
        """
        if not self.certain:
            return torch.zeros_like(self.signal, dtype=torch.bool)
        tiny = torch.finfo(self.signal.dtype).tiny
        lowest = torch.full_like(self.signal, torch.inf)
        if self.has_bias:
            lowest = self.signal / self.signal.abs().max().clamp(min=tiny)
        if self.weight is not None and self._positive:
            rows = self.weight.amin(1) / self.weight.abs().max().clamp(min=tiny)
            lowest = torch.minimum(lowest, rows)
        proved = lowest < -2 * self.rounding
        if int(proved.sum()) > num_images:
            rank = lowest.argsort(stable=True).argsort(stable=True)
            proved = proved & (rank < num_images)
        return proved

    @property
    def _positive(self) -> bool:
        """True if the network's features are never negative, judged by public images."""
        features = None if self.outputs is None else self.outputs.features
        return features is not None and bool((features >= 0).all())


LabelRule = Callable[[OutputLayer, int, Tensor], Tensor]
"""Function from the gradient of the last layer, the number of images n and the expected softmax
output ``[classes]`` to labels: int64 ``[n]`` or soft ``[n, classes]``."""


def whole(counts: Tensor, total: int, least: Tensor | None = None) -> Tensor:
    """Round counts to whole numbers with a given sum, by the largest remainders.

    Args:
        counts: float ``[classes]``; those below 0 count as 0.
        total: Sum of the result, at least that of ``least``.
        least: bool ``[classes]``, classes that get at least 1; ``None`` for none.

    Returns:
        int64 ``[classes]``.
    """
    positive = counts.clamp(min=0)
    positive = positive * (total / positive.sum().clamp(min=1e-12))
    lowest = torch.zeros_like(positive) if least is None else least.to(positive)
    found = positive.floor().maximum(lowest)
    for _ in range(int(found.sum()) - total):  # the least counts took more than there is
        found[torch.where(found > lowest, found - positive, -torch.inf).argmax()] -= 1
    missing = total - int(found.sum())
    order = (positive - found).argsort(descending=True, stable=True)
    # More than one round only if nothing positive was there to scale.
    found += missing // len(found)
    found[order[: missing % len(found)]] += 1
    return found.long()


def repeated(counts: Tensor) -> Tensor:
    """Labels in ascending order from the count of each class, int64 ``[sum of counts]``."""
    return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
