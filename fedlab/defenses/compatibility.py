"""Which defenses a client can run together, and in which order.

Defenses that change batches compose in the order of the scenario, and so do those that change the
update; every batch is changed before its gradient is taken, and the update last. A stack is refused
where a guarantee would be wrong, or where a defense could not do what it is for.
"""

from collections.abc import Sequence
from itertools import combinations

from fedlab.defenses.settings import (
    DPSGD,
    AdversarialPoisoning,
    ClipNoise,
    CutMix,
    Cutout,
    DefenseSettings,
    DPInstaHide,
    FlipCrop,
    LeakageGate,
    MaxUp,
    Mixup,
    Pruning,
    Quantisation,
    SecureAggregation,
    Soteria,
)

_MIXING = (DPInstaHide, Mixup, CutMix)
_OF_UPDATES = (Soteria, ClipNoise, Pruning, Quantisation)

ELSEWHERE = "give them different rounds or clients"


def check(stack: Sequence[DefenseSettings]) -> None:
    """Refuse defenses that one client must not run together in one round.

    Args:
        stack: In the order of the scenario.

    Raises:
        ValueError: What is wrong, why, and what to do instead; to be read after "the client has".

    Example:
        >>> check([FlipCrop(), DPInstaHide()])
        >>> check([SecureAggregation(), ClipNoise()])
        Traceback (most recent call last):
        ...
        ValueError: secure-aggregation before clip-noise: ...
    """
    for first, second in combinations(stack, 2):
        problem = _together(first, second) or _together(second, first) or _in_order(first, second)
        if problem is not None:
            raise ValueError(problem)


def place(stack: Sequence[DefenseSettings], added: DefenseSettings) -> int:
    """Where a defense goes that is added to others: last, but before those that have to come later.

    Args:
        stack: The others, in order.
        added: The new one.
    """
    own = _rank(added)
    return next((i for i, entry in enumerate(stack) if _rank(entry) > own), len(stack))


def _rank(entry: DefenseSettings) -> int:
    match entry:
        case DPInstaHide(frozen=int()):
            return 0
        case LeakageGate():
            return 2
        case SecureAggregation():
            return 3
    return 1


def _together(one: DefenseSettings, other: DefenseSettings) -> str | None:
    """Why two defenses do not go together in any order."""
    names = f"both {one.name} and {other.name}"
    match one, other:
        case DPSGD(), DPInstaHide() | Mixup() | CutMix():
            return (
                f"{names}: one image mixed into several others passes the per-example clipping "
                f"several times, so its epsilon would be wrong; {ELSEWHERE}"
            )
        case DPSGD(), AdversarialPoisoning():
            return (
                f"{names}: an image is changed by the gradients of others, so it passes the "
                f"per-example clipping in theirs as well and its epsilon would be wrong; "
                f"{ELSEWHERE}"
            )
        case DPSGD(), Soteria():
            return (
                f"{names}: what is pruned is chosen by looking at the images, which no noise "
                f"covers, so the epsilon would be wrong; use pruning instead, or {ELSEWHERE}"
            )
        case DPSGD(clipping="adaptive"), ClipNoise():
            return (
                f"{names} with adaptive clipping: the bound that is declared after each round is "
                "learnt from all images of the client, which no noise on its update covers, so "
                f'the epsilon of the client would be wrong; set clipping = "flat", or {ELSEWHERE}'
            )
        case AdversarialPoisoning(), DPInstaHide() | Mixup() | CutMix():
            return (
                f"{names}: the inner attack needs one label for each image, and an image that it "
                f"changed holds something of others, which no mixing accounts for; {ELSEWHERE}"
            )
    return None


def _in_order(first: DefenseSettings, second: DefenseSettings) -> str | None:
    """Why a defense cannot come before another."""
    names = f"{first.name} before {second.name}"
    if isinstance(first, _MIXING) and isinstance(second, _MIXING):
        return (
            f"both {first.name} and {second.name}: of an image that was mixed twice neither the "
            f"number of images in it nor its epsilon is that of the settings; keep one, or "
            f"{ELSEWHERE}"
        )
    match first, second:
        case FlipCrop() | Cutout() | MaxUp(), DPInstaHide(frozen=int()):
            return (
                f"{names} with a frozen set: the set has to be the same in every round, or it "
                f"costs its epsilon again, but {first.name} draws anew; list {first.name} after "
                "it, where it changes noisy mixtures only, or leave frozen out"
            )
        case ClipNoise(), Soteria():
            return (
                f"{names}: what is pruned is chosen by looking at the images, so it must not come "
                f"after the noise that covers them; list {second.name} first"
            )
        case SecureAggregation(), _ if isinstance(second, (*_OF_UPDATES, LeakageGate)):
            return (
                f"{names}: nothing can change an update that is already part of a sum; list "
                f"{first.name} last"
            )
        case LeakageGate(), _ if isinstance(second, _OF_UPDATES):
            return (
                f"{names}: the gate has to judge what is really sent; list {first.name} after "
                f"{second.name}"
            )
    return None
