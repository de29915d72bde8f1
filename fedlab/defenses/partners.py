"""Which images are mixed with each other."""

import torch
from torch import Tensor


def distinct(count: int, size: int, *, out_of: int, generator: torch.Generator) -> Tensor:
    """Sets of different numbers, every set of this size equally likely.

    Floyd's algorithm (Bentley and Floyd, "A sample of brilliance", CACM 1987) on all sets at once:
    its cost does not depend on how many numbers there are to choose from.

    Args:
        count: Number of sets.
        size: Numbers in a set, at most ``out_of``.
        out_of: The numbers are ``0 .. out_of - 1``.
        generator: CPU generator.

    Returns:
        int64 ``[count, size]``. The order within a set is not random.
    """
    chosen = torch.empty(size, count, dtype=torch.int64)
    for place, last in enumerate(range(out_of - size, out_of)):
        drawn = torch.randint(last + 1, (count,), generator=generator)
        taken = (chosen[:place] == drawn).any(0)
        chosen[place] = torch.where(taken, last, drawn)
    return chosen.T


def partners(members: Tensor, size: int, *, out_of: int, generator: torch.Generator) -> Tensor:
    """Different partners for each image, never itself, every set equally likely.

    Args:
        members: int64 ``[b]``, the image that gets partners.
        size: Partners of each, less than ``out_of``.
        out_of: Images to choose from.
        generator: CPU generator.

    Returns:
        int64 ``[b, size]`` on the device of ``members``.
    """
    others = distinct(len(members), size, out_of=out_of - 1, generator=generator)
    others = others.to(members.device)
    return others + (others >= members.unsqueeze(1))  # skip the image itself
