"""What an attack returns; there is no ground truth in it."""

from dataclasses import dataclass, field

from torch import Tensor

from attacks.reconstruction.html import reconstruction_html
from attacks.reconstruction.presets import Attack


@dataclass(frozen=True)
class Reconstruction:
    """Rebuilt images.

    Attributes:
        images: float32 ``[n, channels, height, width]``, pixels in [0, 1].
        labels: int64 ``[n]`` or soft ``[n, classes]``, given or inferred.
        labels_known: Whether they were given.
        cost: Lowest matching cost, without the prior.
        costs: float32 ``[iterations]``, matching cost along the best restart.
        restart: Which restart that was.
        seconds: Wall time of all restarts.
        attack: The settings.
    """

    images: Tensor = field(repr=False)
    labels: Tensor
    labels_known: bool
    cost: float
    costs: Tensor = field(repr=False)
    restart: int
    seconds: float
    attack: Attack

    def _repr_html_(self) -> str:
        return reconstruction_html(self)
