"""The images and labels of one client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Shard:
    """The images and labels of one client.

    Attributes:
        images: Images, uint8 ``[n, channels, height, width]``.
        labels: Class of each image, int64 ``[n]``.
        num_classes: Number of classes in the whole data set.
    """

    images: Tensor
    labels: Tensor
    num_classes: int

    def __len__(self) -> int:
        return len(self.labels)
