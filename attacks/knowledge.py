"""Explicit assumptions of the attacker beside the payload.

PyTorch is imported where tensors are made only, because reading a scenario imports this module.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor

WITHIN_BATCH = frozenset({"mixup", "cutmix"})
"""Names of defenses that mix the images of a batch with one another."""

MIXING = WITHIN_BATCH | {"dp-instahide"}
"""Names of defenses that mix labels."""

MOST_IMAGES = 64
"""Largest number of images behind an attacked update; with more, the result would be noise."""


Optimiser = Literal["sgd", "adam", "adamw"]
"""Optimiser of the local steps, as ``torch.optim`` implements it."""


@dataclass(frozen=True)
class LocalSGD:
    """Local training of a client between two messages, as the server asked for it.

    The state of the optimiser starts anew with each message, as in most apps.

    Attributes:
        lr: Learning rate, above 0.
        momentum: Momentum of SGD in [0, 1); 0 for none, which Adam and AdamW need.
        weight_decay: L2 penalty of SGD and Adam, or decoupled weight decay of AdamW; at least 0.
        epochs: Number of passes over the client's images, at least 1.
        batch_size: Number of images in a step, at least 1; the last step of an epoch may have
            fewer.
        proximal_mu: Weight of FedProx' proximal term, at least 0; 0 for none.
        optimiser: ``sgd``, ``adam`` or ``adamw``.
        betas: Decay rates in [0, 1) of the two running means of Adam and AdamW.
        eps: Number above 0 that Adam and AdamW add to their denominator.
        norm_target: Squared L2 norm to which weight decay draws the weights, at least 0; 0 is
            ordinary weight decay.

    Raises:
        ValueError: If a number is out of range, or the optimiser is unknown.
    """

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    epochs: int = 1
    batch_size: int = 1
    proximal_mu: float = 0.0
    optimiser: Optimiser = "sgd"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    norm_target: float = 0.0

    def __post_init__(self) -> None:
        if self.optimiser not in (names := get_args(Optimiser)):
            raise ValueError(f'local optimiser "{self.optimiser}" is none of {", ".join(names)}')
        if self.adaptive and self.momentum:
            raise ValueError(f"{self.optimiser} has no momentum: set betas instead")
        if not (all(0 <= beta < 1 for beta in self.betas) and 0 < self.eps < math.inf):
            raise ValueError("betas of Adam must be at least 0 and below 1, and eps above 0")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"the learning rate of local SGD must be above 0, not {self.lr}")
        if not (0 <= self.momentum < 1 and 0 <= self.weight_decay < math.inf):
            raise ValueError(
                "momentum of local SGD must be at least 0 and below 1, and weight decay at least 0"
            )
        if not 0 <= self.norm_target < math.inf:
            raise ValueError(f"norm_target must be at least 0, not {self.norm_target}")
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError("local SGD needs at least one epoch and a batch size of at least 1")

    @property
    def adaptive(self) -> bool:
        """True for Adam and AdamW, whose steps are not linear in the gradient."""
        return self.optimiser != "sgd"

    def decay_factor(self, weights: Iterable[Tensor]) -> float | Tensor:
        """Factor of the weights in the gradient of weight decay; see ``attacks.norm_bias``."""
        from attacks.norm_bias import decay_factor

        return decay_factor(weights, weight_decay=self.weight_decay, norm_target=self.norm_target)

    def steps(self, num_images: int) -> int:
        """Number of steps on this many images."""
        return self.epochs * math.ceil(num_images / self.batch_size)

    def blocks(self, num_images: int) -> tuple[Tensor, ...]:
        """Indices of the images of each step, in the same order in every epoch."""
        import torch

        return torch.split(torch.arange(num_images), self.batch_size) * self.epochs


@dataclass(frozen=True)
class PublicImages:
    """Images that an attacker may have beside the payload; none of them is a client's.

    Attributes:
        images: float32 ``[m, channels, height, width]``, pixels in [0, 1], at least one image.
        labels: int64 ``[m]``; ``None`` if unknown, as for images of another kind.

    Raises:
        ValueError: If there is no image, or the labels do not fit the images.
    """

    images: Tensor = field(repr=False)
    labels: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or not len(self.images):
            raise ValueError("public images must be [m, channels, height, width] with m at least 1")
        if self.labels is not None and len(self.labels) != len(self.images):
            raise ValueError(
                f"{len(self.labels)} labels were given for {len(self.images)} public images"
            )


@dataclass(frozen=True)
class Knowledge:
    """Assumptions of the attacker.

    Attributes:
        image_shape: Channels, height and width of an image.
        num_classes: Number of outputs of the network.
        mean: Mean of the normalisation for each channel, on pixels in [0, 1].
        std: Standard deviation of the normalisation for each channel, above 0.
        num_images: Number n of images to reconstruct, at least 1.
        labels: int64 ``[n]``, or float32 ``[n, classes]`` for mixed images, in the order of the
            local batches; ``None`` if they have to be inferred.
        local: Local training; required for weights, ``None`` for a gradient.
        order: Indices in ``labels`` of the images of each local step, or an assumption:
            ``sequential`` blocks that repeat in every epoch, as in the public code, or ``average``,
            steps on all images at once, which equal any order to first order in the learning rate.
        training_mode: True if the client's network was in training mode.
        statistics: Mean and variance of the inputs of its BatchNorm layers, by layer name. This is
            a strong assumption, true only where clients share them. If ``None``, the prior on
            statistics uses the running ones that the server sent.
        defenses: Names of the defenses that the client runs.
        clipping_norm: Clipping norm of DP-SGD, by which simulated gradients are clipped as well;
            ``None`` without DP-SGD.
        noise_multiplier: Noise multiplier of DP-SGD: standard deviation of its noise divided by the
            clipping norm; ``None`` without DP-SGD.
        mixture_size: Number of images in each mixture of DP-InstaHide, whose labels are multiples
            of its inverse; ``None`` if unknown.
        update_clipping_norm: Clipping norm of clip-noise: largest L2 norm of the update before
            noise; ``None`` without clip-noise.
        update_noise: Standard deviation of the noise of clip-noise on each entry of the update.
        public: Public images from which expected outputs are computed; ``None`` for none.
        hidden: Names of parameters of which the payload says nothing, because the server cannot
            tell the client's part from those of others; they are not compared.

    Raises:
        ValueError: If there is no image to reconstruct, or normalisation, labels or order do not
            fit.
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
    public: PublicImages | None = field(default=None, repr=False)
    hidden: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.num_images < 1:
            raise ValueError("there is no image to reconstruct: num_images is 0")
        if not all(0 < deviation < math.inf for deviation in self.std):
            raise ValueError(f"std of the normalisation must be above 0, not {self.std}")
        if not all(math.isfinite(value) for value in self.mean):
            raise ValueError(f"mean of the normalisation must be finite, not {self.mean}")
        if self.labels is not None and len(self.labels) != self.num_images:
            raise ValueError(f"{len(self.labels)} labels were given for {self.num_images} images")
        if self.labels is not None and (problem := self._label_problem(self.labels)):
            raise ValueError(problem)
        if not isinstance(self.order, str) and any(
            len(step) and not 0 <= int(step.min()) <= int(step.max()) < self.num_images
            for step in self.order
        ):
            raise ValueError(f"the order names images beyond the {self.num_images} to reconstruct")

    def _label_problem(self, labels: Tensor) -> str | None:
        """Reason why labels do not fit the number of classes, or ``None``."""
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
        """Number of equal parts, each of one class, that make up the mean label of the batch.

        It is ``None`` if unknown, as with random mixing weights of DP-InstaHide, whose equal
        mixtures give one part to each of their k images. Mixup and CutMix mix a batch with itself,
        which does not change the sum of its labels.
        """
        if not WITHIN_BATCH.isdisjoint(self.defenses):
            return self.num_images
        return None if self.mixture_size is None else self.num_images * self.mixture_size

    @property
    def blocks(self) -> tuple[Tensor, ...]:
        """Indices of the images of each local step, int64; a gradient has one step."""
        import torch

        everything = torch.arange(self.num_images)
        if not isinstance(self.order, str):
            return self.order
        if self.local is None:
            return (everything,)
        blocks = self.local.blocks(self.num_images)
        return blocks if self.order == "sequential" else (everything,) * len(blocks)
