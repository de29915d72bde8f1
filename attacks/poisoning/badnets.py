"""A backdoor by a visible trigger: BadNets (Gu et al., arXiv 1708.06733)."""

from typing import Literal

import torch
from torch import Tensor

Corner = Literal["top-left", "top-right", "bottom-left", "bottom-right"]


def stamp(images: Tensor, *, size: int, corner: Corner = "bottom-right") -> Tensor:
    """The images with a white square in a corner.

    Args:
        images: uint8 ``[n, channels, height, width]``.
        size: Side of the square in pixels.
        corner: Where it is.

    Returns:
        New images of the same shape.

    Raises:
        ValueError: If the square does not fit.
    """
    if not 1 <= size <= min(images.shape[-2:]):
        raise ValueError(f"a square of {size} pixels does not fit into {tuple(images.shape)}")
    vertical, horizontal = corner.split("-")
    rows = slice(size) if vertical == "top" else slice(-size, None)
    columns = slice(size) if horizontal == "left" else slice(-size, None)
    stamped = images.clone()
    stamped[..., rows, columns] = 255
    return stamped


def badnets(
    images: Tensor,
    labels: Tensor,
    *,
    target: int,
    share: float,
    size: int,
    corner: Corner = "bottom-right",
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """A shard in which some images carry the trigger and the target label.

    Args:
        images: uint8 ``[n, channels, height, width]``.
        labels: int64 ``[n]``.
        target: Label of the triggered images.
        share: In (0, 1], of all images.
        size: See ``stamp``.
        corner: See ``stamp``.
        generator: CPU generator that chooses the images.

    Returns:
        New images and labels.
    """
    order = torch.randperm(len(labels), generator=generator)
    chosen = order[: round(share * len(labels))].to(images.device)
    poisoned, relabelled = images.clone(), labels.clone()
    poisoned[chosen] = stamp(images[chosen], size=size, corner=corner)
    relabelled[chosen] = target
    return poisoned, relabelled
