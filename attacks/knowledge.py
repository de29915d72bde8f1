"""What the attacker is assumed to know beside the payload; every assumption is explicit."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

WITHIN_BATCH = frozenset({"mixup", "cutmix"})
"""Defenses that mix the images of a batch with one another."""

MIXING = WITHIN_BATCH | {"dp-instahide"}
"""Defenses that mix labels."""


MOST_IMAGES = 64
"""Updates of more images are not attacked: what comes out would only be noise."""


@dataclass(frozen=True)
class LocalSGD:
    """How a client trains between two messages, as the server announced it.

    Attributes:
        lr: Learning rate.
        momentum: Of SGD, 0 for none.
        weight_decay: L2 penalty of SGD.
        epochs: Passes over the client's images.
        batch_size: Images in a step; the last one of an epoch may have fewer.
        proximal_mu: Weight of FedProx' pull towards the global weights, 0 for none.

    Raises:
        ValueError: If a number is out of range.
    """

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    epochs: int = 1
    batch_size: int = 1
    proximal_mu: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf:
            raise ValueError(f"the learning rate of local SGD must be above 0, not {self.lr}")
        if not (0 <= self.momentum < 1 and 0 <= self.weight_decay < math.inf):
            raise ValueError(
                "momentum of local SGD must be at least 0 and below 1, and weight decay at least 0"
            )
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError("local SGD needs at least one epoch and a batch size of at least 1")

    def steps(self, num_images: int) -> int:
        """How many steps so many images make."""
        return self.epochs * math.ceil(num_images / self.batch_size)

    def blocks(self, num_images: int) -> tuple[Tensor, ...]:
        """Places of the images of each step, taken in the same order in every epoch."""
        return torch.split(torch.arange(num_images), self.batch_size) * self.epochs


@dataclass(frozen=True)
class Knowledge:
    """The attacker's assumptions.

    Attributes:
        image_shape: Channels, height, width.
        num_classes: Outputs of the network.
        mean: Of the normalisation, per channel, on pixels in [0, 1].
        std: Likewise.
        num_images: Images to rebuild.
        labels: int64 ``[n]``, or float32 ``[n, classes]`` for mixed images, in the order of
            the local batches; ``None`` if they have to be inferred.
        local: Needed for weights; ``None`` for a gradient.
        order: Which images each local step used, as places in ``labels``; or an assumption:
            ``sequential`` blocks, the same in every epoch, as the public code has it, or
            ``average``, steps on all images at once, which any order equals to first order in
            the learning rate.
        training_mode: Whether the client's network was in training mode.
        statistics: Mean and variance of what its BatchNorm layers saw, by name of the layer: a
            strong assumption, true only where clients share them. Otherwise the prior on them
            takes the running ones that the server sent.
        defenses: Names of what the client runs, for the choice of an attack.
        clipping_norm: Of DP-SGD: the simulated gradient is then clipped per example as well.
        noise_multiplier: Of DP-SGD: standard deviation of its noise over the clipping norm.
        mixture_size: Of DP-InstaHide: images in each mixture; labels are multiples of its inverse.
        update_clipping_norm: Of clip-noise: largest L2 norm of the payload's change before noise.
        update_noise: Of clip-noise: standard deviation of the noise on each entry of that change.

    Raises:
        ValueError: If there is nothing to rebuild, or normalisation, labels or order do not fit.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_images: int
    labels: Tensor | None = field(default=None, repr=False)
    local: LocalSGD | None = None
    order: tuple[Tensor, ...] | Literal["sequential", "average"] = field(
        default="sequential", repr=False
    )
    training_mode: bool = True
    statistics: Mapping[str, tuple[Tensor, Tensor]] | None = field(default=None, repr=False)
    defenses: tuple[str, ...] = ()
    clipping_norm: float | None = None
    noise_multiplier: float | None = None
    mixture_size: int | None = None
    update_clipping_norm: float | None = None
    update_noise: float = 0.0

    def __post_init__(self) -> None:
        if self.num_images < 1:
            raise ValueError("there is no image to rebuild: num_images is 0")
        if not all(0 < deviation < math.inf for deviation in self.std):
            raise ValueError(f"std of the normalisation must be above 0, not {self.std}")
        if not all(math.isfinite(value) for value in self.mean):
            raise ValueError(f"mean of the normalisation must be finite, not {self.mean}")
        if self.labels is not None and len(self.labels) != self.num_images:
            raise ValueError(f"{len(self.labels)} labels were given for {self.num_images} images")
        if self.labels is not None and (problem := self._misfit(self.labels)):
            raise ValueError(problem)
        if not isinstance(self.order, str) and any(
            len(step) and not 0 <= int(step.min()) <= int(step.max()) < self.num_images
            for step in self.order
        ):
            raise ValueError(f"the order names images beyond the {self.num_images} to rebuild")

    def _misfit(self, labels: Tensor) -> str | None:
        """What keeps labels from being those of this many classes."""
        classes = self.num_classes
        if labels.is_floating_point():
            fits = labels.shape[1:] == (classes,)
            return None if fits else f"soft labels must be [n, {classes}], not {[*labels.shape]}"
        outside = labels[(labels < 0) | (labels >= classes)]
        if len(outside):
            return f"label {int(outside[0])} is none of the {classes} classes, counted from 0"
        return None

    @property
    def label_parts(self) -> int | None:
        """Of how many equal parts, each of one class, the mean label of the batch is made.

        ``None`` if that is not known, as where mixing weights are random. Mixup and CutMix mix a
        batch with itself, so whatever their weights the sum of its labels stays as it was; equal
        mixtures of DP-InstaHide give each of their k images one part.
        """
        if not WITHIN_BATCH.isdisjoint(self.defenses):
            return self.num_images
        return None if self.mixture_size is None else self.num_images * self.mixture_size

    @property
    def blocks(self) -> tuple[Tensor, ...]:
        """Places of the images of each local step, int64 each; of a gradient a single one."""
        everything = torch.arange(self.num_images)
        if not isinstance(self.order, str):
            return self.order
        if self.local is None:
            return (everything,)
        blocks = self.local.blocks(self.num_images)
        return blocks if self.order == "sequential" else (everything,) * len(blocks)
