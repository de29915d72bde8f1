"""Training under wrong labels."""

import torch
from torch import Tensor


def flip(
    labels: Tensor, *, num_classes: int, source: int | None = None, target: int | None = None
) -> Tensor:
    """The wrong label of every image.

    Args:
        labels: int64 ``[n]``.
        num_classes: C.
        source: With ``target``: relabel only this class; otherwise y becomes C - 1 - y.
        target: The label that images of ``source`` get.

    Example:
        >>> flip(torch.tensor([0, 3, 9]), num_classes=10).tolist()
        [9, 6, 0]
    """
    if source is None or target is None:
        return num_classes - 1 - labels
    return torch.where(labels == source, target, labels)


def label_flip(
    labels: Tensor,
    *,
    num_classes: int,
    share: float,
    source: int | None = None,
    target: int | None = None,
    generator: torch.Generator,
) -> Tensor:
    """The labels with a share of those concerned flipped.

    Args:
        labels: int64 ``[n]``.
        num_classes: C.
        share: In (0, 1], of the images whose label would change.
        source: See ``flip``.
        target: See ``flip``.
        generator: CPU generator that chooses the images.

    Returns:
        int64 ``[n]``.
    """
    wrong = flip(labels, num_classes=num_classes, source=source, target=target)
    concerned = (wrong != labels).nonzero().squeeze(1)
    order = torch.randperm(len(concerned), generator=generator).to(labels.device)
    chosen = concerned[order[: round(share * len(concerned))]]
    flipped = labels.clone()
    flipped[chosen] = wrong[chosen]
    return flipped
