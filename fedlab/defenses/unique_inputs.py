"""Unique inputs of a client's training: one network input for each image behind its batches."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fedlab.defenses.pipeline import Batch


def unique_inputs(trace: Sequence[Batch]) -> tuple[Tensor, tuple[Tensor, ...] | None]:
    """Find the first input that was made from each image, and each batch in terms of them.

    Args:
        trace: Batches of one participation, as the network was trained on them.

    Returns:
        Indices of the n unique inputs in the concatenation of all batches, int64 ``[n]``; and for
        each batch the indices of its inputs among those n. The second value is ``None`` if an image
        gave different inputs at different steps, as with augmentation and mixing.
    """
    members = torch.cat([batch.members for batch in trace])
    # A stable sort groups the inputs of one image, in the order of the batches.
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
    """True if every input equals the first input of its image."""
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
