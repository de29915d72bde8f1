"""Compatibility of defenses: which ones a client can run together, and in which order.

Defenses that change batches compose in the order of the scenario, and so do defenses that change
the update. Batches are changed before the gradient is computed, and the update after it. A
combination is refused if a guarantee would be wrong or a defense could not serve its purpose.
"""

from collections.abc import Sequence
from itertools import combinations

from fedlab.defenses.base import ELSEWHERE, Defense


def check(stack: Sequence[Defense]) -> None:
    """Refuse defenses that one client must not run together in one round.

    Args:
        stack: The defenses in the order of the scenario.

    Raises:
        ValueError: If two of them conflict, or one needs a sum that is not formed. The message
            names them, the reason and the fix, and continues a sentence that begins with "the
            client has".

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
            or _epsilon_wrong(first, second)
            or _epsilon_wrong(second, first)
            or _guarantee_lost(first, second)
            or _guarantee_lost(second, first)
            or first.conflict_before(second)
            or second.conflict_after(first)
            or _gradient_lost(first, second)
        )
        if problem is not None:
            raise ValueError(problem)
    shared = next((entry for entry in stack if entry.fewest_summed > 1), None)
    if shared and not any(entry.sums_updates for entry in stack):
        raise ValueError(
            f"{shared.name} whose noise suffices for the sum of {shared.fewest_summed} clients "
            "only, but no secure aggregation, so the server sees its reply alone: add "
            "secure-aggregation after it"
        )


def place(stack: Sequence[Defense], added: Defense) -> int:
    """Find where to insert a defense into a stack: last, but before those with a later position.

    Args:
        stack: The other defenses, in order.
        added: The new defense.

    Returns:
        Index in the stack at which to insert the defense.
    """
    own = added.position
    return next((i for i, entry in enumerate(stack) if entry.position > own), len(stack))


def _mixed_twice(first: Defense, second: Defense) -> str | None:
    if not (first.mixes_images and second.mixes_images):
        return None
    return (
        f"both {first.name} and {second.name}: if images are mixed twice, neither the number of "
        f"images in a mixture nor its epsilon is that of the settings; keep one, or {ELSEWHERE}"
    )


def _gradient_lost(first: Defense, second: Defense) -> str | None:
    if not (first.changes_gradient and second.computes_gradient):
        return None
    return (
        f"{first.name} before {second.name}: {second.name} computes the gradient itself, which "
        f"would discard what {first.name} does to it; list {first.name} after {second.name}"
    )


def _epsilon_wrong(one: Defense, other: Defense) -> str | None:
    # Mixing defenses with an epsilon account for the mixtures that they make themselves.
    per_example = one.account is not None and one.account.unit == "example"
    if not per_example or one.mixes_images:
        return None
    if not (other.mixes_images or other.couples_images or other.selects_by_images):
        return None
    return (
        f"both {one.name} and {other.name}: the epsilon of {one.name} holds for one image, but "
        f"{other.name} mixes images, changes them by each other, or chooses what to send by "
        f"looking at them; {ELSEWHERE}"
    )


def _guarantee_lost(one: Defense, other: Defense) -> str | None:
    # A defense without an epsilon needs no refusal: its round counts as unprotected.
    if one.keeps_guarantees or one.account is None or other.account is None:
        return None
    return (
        f"both {one.name} and {other.name}: {one.name} does not state that the epsilon of other "
        "defenses holds beside it; set keeps_guarantees = True in its class if it changes each "
        f"image by itself or uses the noisy update only, or {ELSEWHERE}"
    )
