"""The settings of each defense as a scenario names them."""

from typing import Annotated, Literal, get_args

from pydantic import Field

from fedlab.schedule import ClientsText, RoundsText
from fedlab.settings import Settings


class DPSGD(Settings):
    """DP-SGD: per-example clipping and Gaussian noise (Abadi et al. 2016), by Opacus."""

    name: Literal["dp-sgd"] = "dp-sgd"
    rounds: RoundsText = "all"
    clients: ClientsText = "all"
    noise_multiplier: float = Field(default=1.0, ge=0)
    """Standard deviation of the noise in units of the clipping norm; 0 clips only."""
    clipping_norm: float = Field(default=1.0, gt=0)
    """Largest L2 norm that one example's gradient keeps."""


class DPInstaHide(Settings):
    """DP-InstaHide: k-way mixup of images and labels plus noise (Borgnia et al. 2021)."""

    name: Literal["dp-instahide"] = "dp-instahide"
    rounds: RoundsText = "all"
    clients: ClientsText = "all"
    k: int = Field(default=4, ge=1)
    """Images mixed into one, with equal weights 1/k."""
    noise: Literal["laplace", "gaussian"] = "laplace"
    scale: float = Field(default=16 / 255, ge=0)
    """Laplace scale or Gaussian standard deviation, on pixels in [0, 1]."""


DefenseSettings = Annotated[DPSGD | DPInstaHide, Field(discriminator="name")]
"""Every defense that a scenario can name. A new one adds its settings here."""

NAMES: tuple[str, ...] = tuple(
    kind.model_fields["name"].default for kind in get_args(get_args(DefenseSettings)[0])
)
"""What the defenses are called."""
