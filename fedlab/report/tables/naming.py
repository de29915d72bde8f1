"""Names of defenses, rounds and clients in tables, figures and sentences."""

from collections.abc import Collection

from fedlab.core.schedule import spell

UNDEFENDED = "none"
"""Label of a round without a defense in tables and CSV files."""

OPEN = "open"
"""Label of the same in figures."""


def named(defenses: str) -> str:
    """Label of a row or a band: the defenses joined by ``+``, or ``open`` for none.

    Example:
        >>> named("dp-sgd"), named("none")
        ('dp-sgd', 'open')
    """
    return OPEN if defenses == UNDEFENDED else defenses


def under(defenses: str) -> str:
    """The defenses as part of a sentence.

    Example:
        >>> under("dp-sgd"), under("none")
        ('under dp-sgd', 'without a defense')
    """
    return "without a defense" if defenses == UNDEFENDED else f"under {defenses}"


MOST_SPELLED = 24
"""Largest number of single rounds or clients, and ranges of them, that are named."""


def spelled(numbers: Collection[int]) -> str:
    """The rounds or clients; of many the first and the last, and how many they are.

    Example:
        >>> spelled([1, 2, 3, 7]), spelled(range(2, 1001, 2))
        ('1-3,7', '2,4,6,8,10,12,…,1000 (500 in all)')
    """
    text = spell(numbers)
    parts = text.split(",")
    if len(parts) <= MOST_SPELLED:
        return text
    return f"{','.join(parts[:6])},…,{parts[-1]} ({len(numbers):,} in all)"


def left_out_note(rounds: Collection[int], attacked: int) -> str:
    """Sentence about attacked rounds that a figure does not show.

    Args:
        rounds: Numbers of these rounds, at least one.
        attacked: Number of all attacked rounds.

    Example:
        >>> left_out_note([2, 3, 5], 9)
        'Left out: 3 of 9 attacked rounds (2-3,5), which the folder reconstructions has.'
    """
    return (
        f"Left out: {len(rounds)} of {attacked} attacked rounds ({spelled(rounds)}), which the "
        "folder reconstructions has."
    )
