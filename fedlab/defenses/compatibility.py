"""Which defenses a client can run together, and in which order.

Defenses that change batches compose in the order of the scenario, and so do those that change the
update; every batch is changed before its gradient is taken, and the update last. A combination is
refused where a guarantee would be wrong, or where a defense could not do what it is for.
"""

from collections.abc import Sequence
from itertools import combinations

from fedlab.defenses.base import ELSEWHERE, Defense


def check(stack: Sequence[Defense]) -> None:
    """Refuse defenses that one client must not run together in one round.

    Args:
        stack: The defenses in the order of the scenario.

    Raises:
        ValueError: The two defenses, why they conflict, and what to do instead; to be read after
            "the client has".

    Example:
        >>> from fedlab.defenses import DEFENSES
        >>> gate, noise = DEFENSES.get("secure-aggregation")(), DEFENSES.get("clip-noise")()
        >>> check([noise, gate])
        >>> check([gate, noise])
        Traceback (most recent call last):
        ...
        ValueError: secure-aggregation before clip-noise: ...
    """
    for first, second in combinations(stack, 2):
        problem = (
            first.conflict(second)
            or second.conflict(first)
            or _mixed_twice(first, second)
            or first.conflict_before(second)
            or second.conflict_after(first)
        )
        if problem is not None:
            raise ValueError(problem)


def place(stack: Sequence[Defense], added: Defense) -> int:
    """Where to insert a defense into a stack: last, but before those that have to come later.

    Args:
        stack: The other defenses, in order.
        added: The new defense.

    Returns:
        The index in the stack.
    """
    own = added.position
    return next((i for i, entry in enumerate(stack) if entry.position > own), len(stack))


def _mixed_twice(first: Defense, second: Defense) -> str | None:
    if not (first.mixes_images and second.mixes_images):
        return None
    return (
        f"both {first.name} and {second.name}: of an image that was mixed twice neither the "
        f"number of images in it nor its epsilon is that of the settings; keep one, or "
        f"{ELSEWHERE}"
    )
