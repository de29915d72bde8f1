"""ATS: automatic transformation search, with the two pairs of policies that its authors found.

Gao et al., "Privacy-preserving Collaborative Learning with Automatic Transformation Search" (CVPR
2021, arXiv 2011.12505). The policies are those of the public code, where a number stands for one of
its fifty transformations. The crop and flip that the code applies before them are ``flip-crop``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from fedlab.core.lazy import torch
from fedlab.defenses.augmentation import Augmentation

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from fedlab.defenses.augmentation import PixelChange
    from fedlab.defenses.pipeline import ClientContext

Transformation = tuple[
    Literal["translate x", "translate y", "contrast", "brightness", "sharpness"], float
]
"""A kind of change and its size, which gets a random sign: a share of the image's side for a
translation, else the difference of the factor from 1."""

TRANSFORMATIONS: Mapping[int, Transformation] = {
    1: ("contrast", 3 / 9),
    3: ("translate x", 150 / 331),
    4: ("sharpness", 0.5 / 9),
    7: ("translate y", 2 / 9 * 150 / 331),
    13: ("brightness", 2.5 / 9),
    15: ("brightness", 0.5),
    18: ("contrast", 3.5 / 9),
    21: ("translate x", 5 / 9 * 150 / 331),
    43: ("translate y", 3 / 9 * 150 / 331),
}
"""Transformations of the policies by their numbers in the public code. Sizes are tenths of
AutoAugment's ranges (arXiv 1805.09501), of which the code halves those of the factors."""


class ATS(Augmentation):
    """Changes every image by one of two policies of three transformations each (CVPR 2021).

    An attacker reconstructs the changed image.
    """

    policies: Literal["3-1-7+43-18-18", "21-13-3+7-4-15"] = "3-1-7+43-18-18"
    """Two policies, one of which is drawn for every image: those that were found for CIFAR-100
    (default), or for Fashion-MNIST."""

    colour: ClassVar[str] = "#FFAABB"

    def pixel_change(self, context: ClientContext, generator: Generator) -> PixelChange:
        """Create the change that applies a random policy to every image."""
        policies = [
            [TRANSFORMATIONS[int(number)] for number in policy.split("-")]
            for policy in self.policies.split("+")
        ]

        def change(pixels: Tensor) -> Tensor:
            drawn = torch.randint(len(policies), (len(pixels),), generator=generator)
            changed = pixels.clone()
            for place, policy in enumerate(policies):
                members = (drawn == place).nonzero().squeeze(1).to(pixels.device)
                for kind, size in policy:
                    signs = torch.randint(2, (len(members),), generator=generator) * 2 - 1
                    sizes = (size * signs).to(pixels)
                    changed[members] = CHANGES[kind](changed[members], sizes)
            return changed

        return change


def translated(pixels: Tensor, shares: Tensor, *, axis: int) -> Tensor:
    """Move each image along one axis by whole pixels; what moves in is black.

    Args:
        pixels: float ``[b, channels, height, width]``.
        shares: float ``[b]``, share of the side by which the content moves to its start.
        axis: 2 for the height, 3 for the width.
    """
    length = pixels.shape[axis]
    places = torch.arange(length, device=pixels.device) + (shares * length).round().unsqueeze(1)
    inside = (places >= 0) & (places < length)
    shape = (len(pixels), 1, length, 1) if axis == 2 else (len(pixels), 1, 1, length)
    index = places.clamp(0, length - 1).long().view(shape).expand_as(pixels)
    return pixels.gather(axis, index) * inside.view(shape)


def contrasted(pixels: Tensor, differences: Tensor) -> Tensor:
    """Scale the distance of each pixel from the mean brightness of its image.

    Args:
        pixels: float ``[b, channels, height, width]`` in [0, 1].
        differences: float ``[b]``, difference of the factor from 1.
    """
    mean = _grey(pixels).mean((1, 2, 3), keepdim=True)
    return _blended(pixels, mean, differences)


def brightened(pixels: Tensor, differences: Tensor) -> Tensor:
    """Scale each pixel; arguments as for ``contrasted``."""
    return _blended(pixels, torch.zeros_like(pixels), differences)


def sharpened(pixels: Tensor, differences: Tensor) -> Tensor:
    """Scale the distance of each pixel from a smoothed image, as PIL does.

    Pixels of the border stay as they are. Arguments are as for ``contrasted``.
    """
    channels = pixels.shape[1]
    kernel = torch.ones(channels, 1, 3, 3, device=pixels.device) / 13
    kernel[:, :, 1, 1] = 5 / 13
    smooth = pixels.clone()
    if min(pixels.shape[2:]) > 2:
        smooth[:, :, 1:-1, 1:-1] = torch.nn.functional.conv2d(pixels, kernel, groups=channels)
    return _blended(pixels, smooth, differences)


CHANGES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "translate x": lambda pixels, shares: translated(pixels, shares, axis=3),
    "translate y": lambda pixels, shares: translated(pixels, shares, axis=2),
    "contrast": contrasted,
    "brightness": brightened,
    "sharpness": sharpened,
}
"""Change of images for each kind of transformation, given one size for each image."""


def _blended(pixels: Tensor, other: Tensor, differences: Tensor) -> Tensor:
    """Move images away from other ones by a factor, and clip them to [0, 1]."""
    factors = 1 + differences.view(-1, 1, 1, 1)
    return (other + factors * (pixels - other)).clamp(0, 1)


def _grey(pixels: Tensor) -> Tensor:
    """Brightness of each pixel (ITU-R BT.601), float ``[b, 1, height, width]``."""
    if pixels.shape[1] != 3:
        return pixels.mean(1, keepdim=True)
    weights = torch.tensor([0.299, 0.587, 0.114], device=pixels.device).view(1, 3, 1, 1)
    return (weights * pixels).sum(1, keepdim=True)
