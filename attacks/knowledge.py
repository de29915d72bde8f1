"""What the attacker is assumed to know beside the payload; every assumption is explicit."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class LocalSGD:
    """How a client trains between two messages, as the server announced it.

    Attributes:
        lr: Learning rate.
        momentum: Of SGD, 0 for none.
        weight_decay: L2 penalty of SGD.
        epochs: Passes over the client's images.
        batch_size: Images in a step; the last one of an epoch may have fewer.
    """

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    epochs: int = 1
    batch_size: int = 1


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
        training_mode: Whether the client's network was in training mode.
        defenses: Names of what the client runs, for the choice of an attack.
        clipping_norm: Of DP-SGD: the simulated gradient is then clipped per example as well.

    Raises:
        ValueError: If there is nothing to rebuild, or labels do not fit.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_images: int
    labels: Tensor | None = field(default=None, repr=False)
    local: LocalSGD | None = None
    training_mode: bool = True
    defenses: tuple[str, ...] = ()
    clipping_norm: float | None = None

    def __post_init__(self) -> None:
        if self.num_images < 1:
            raise ValueError("there is no image to rebuild: num_images is 0")
        if self.labels is not None and len(self.labels) != self.num_images:
            raise ValueError(f"{len(self.labels)} labels were given for {self.num_images} images")
