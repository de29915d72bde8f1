"""Formats of numbers in tables, figures and sentences."""

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real

MOST_DECIBELS = 100.0
"""``fedlab.metrics.images.PSNR_CAP`` in dB, repeated here because that module loads PyTorch."""


def number(value: float | None) -> str:
    """Format an epsilon with two decimals, without decimals from 1000 on, and never as 0.00.

    Example:
        >>> [number(value) for value in (None, float("inf"), 0.001, 2.481, 10_000)]
        ['-', '∞', '< 0.01', '2.48', '10,000']
    """
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "∞"
    if 0 < value < 0.005:
        return "< 0.01"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.2f}"


def plain(value: object, *, digits: int = 2) -> str:
    """Format any value: ``-`` if it is missing, ``∞``, yes and no, and rounded numbers.

    Args:
        value: The value of a cell.
        digits: Decimals of numbers below 10,000 that are not whole.

    Example:
        >>> [plain(value) for value in (None, float("nan"), float("inf"), True, 3, 2.0, 0.123)]
        ['-', '-', '∞', 'yes', '3', '2.00', '0.12']
    """
    if value is None:
        return "-"
    if isinstance(value, bool) or type(value).__name__ == "bool":  # numpy.bool is not a bool
        return "yes" if value else "no"
    if not isinstance(value, Real) or isinstance(value, Integral):
        return str(value)
    each = float(value)
    if math.isnan(each):
        return "-"
    if math.isinf(each):
        return "∞" if each > 0 else "-∞"
    return f"{each:,.0f}" if abs(each) >= 10_000 else f"{each:.{digits}f}"


def decibels(value: float) -> str:
    """Format a PSNR with one decimal and its unit.

    Example:
        >>> decibels(14.26), decibels(100.0), decibels(float("nan"))
        ('14.3 dB', '≥ 100 dB', '-')
    """
    if value >= MOST_DECIBELS:
        return f"≥ {MOST_DECIBELS:.0f} dB"
    return "-" if math.isnan(value) else f"{value:.1f} dB"


def interval(low: str, high: str, *, joint: str = " to ") -> str:
    """Format a range; a single value if both ends read the same."""
    return low if low == high else f"{low}{joint}{high}"


def counted(count: int, noun: str) -> str:
    """Format a count with its noun, such as ``1 client`` or ``2 clients``."""
    return f"{count} {noun}{'s' * (count != 1)}"


def seeds_in_words(counts: Iterable[int]) -> str:
    """Format the numbers of seeds of several arms.

    Example:
        >>> seeds_in_words([3, 3]), seeds_in_words([2, 3]), seeds_in_words([1])
        ('3 seeds', '2 to 3 seeds', '1 seed')
    """
    low, high = min(counts := list(counts)), max(counts)
    return f"{interval(str(low), str(high))} seed{'s' * (high > 1)}"


def listed(words: Sequence[str], last: str = "and") -> str:
    """Join words as in a sentence.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    *first, end = words
    return f"{', '.join(first)} {last} {end}" if first else end
