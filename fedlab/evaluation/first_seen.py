"""Which of all the inputs that a network was trained on stand for the images behind them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fedlab.defenses.pipeline import Batch


def first_seen(trace: Sequence[Batch]) -> tuple[Tensor, tuple[Tensor, ...] | None]:
    """The first input that was made from each image, and the batches in terms of those inputs.

    Args:
        trace: The batches of a participation as the network saw them.

    Returns:
        int64 ``[n]``, places in all batches one after the other; and for each batch the places of
        its inputs among those n, or ``None`` where an image was another input each time that it
        came up, as augmentation and mixing have it.
    """
    members = torch.cat([batch.members for batch in trace])
    _, image, times = members.unique(return_inverse=True, return_counts=True)
    # A stable sort keeps the first of each image in front.
    firsts = image.argsort(stable=True)[times.cumsum(0) - times]
    once = firsts.sort().values
    place = torch.empty_like(once)
    place[image[once]] = torch.arange(len(once), device=once.device)
    same = place[image]
    if not _repeated(trace, once[same]):
        return once, None
    return once, same.split([len(batch.members) for batch in trace])


def _repeated(trace: Sequence[Batch], first: Tensor) -> bool:
    """Whether every input is the one that its image first was."""
    again = first != torch.arange(len(first), device=first.device)
    if not again.any():
        return True
    return all(
        torch.equal(values[again], values[first[again]])
        for values in (
            torch.cat([batch.pixels for batch in trace]),
            torch.cat([batch.labels for batch in trace]),
        )
    )
