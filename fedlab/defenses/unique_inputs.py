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
    # A stable sort puts the inputs of one image side by side, the first of them in front.
    order = members.argsort(stable=True)
    begins = members[order].diff(prepend=members.new_full((1,), -1)) != 0
    image = torch.empty_like(members)
    image[order] = begins.cumsum(0) - 1
    firsts = order[begins]
    once = firsts.sort().values
    place = torch.empty_like(once)
    place[image[once]] = torch.arange(len(once), device=once.device)
    same = place[image]
    if not _repeated(trace, once[same]):
        return once, None
    return once, torch.split(same, [len(batch.members) for batch in trace])


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
