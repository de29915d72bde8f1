"""Numbers as people read them."""

import math
from numbers import Integral, Real

MOST_DECIBELS = 100.0
"""``fedlab.metrics.images.PSNR_CAP``, told anew since scenarios may not reach evaluation."""


def number(value: float | None) -> str:
    """An epsilon with two decimals; whole once it has four digits, and never rounded to 0."""
    if value is None:
        return "-"
    if math.isinf(value):
        return "∞"
    if 0 < value < 0.005:
        return "< 0.01"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.2f}"


def plain(value: object, *, digits: int = 2) -> str:
    """Any cell of a table: ``-`` for what is missing, ``∞``, yes and no, and rounded numbers.

    Example:
        >>> [plain(value) for value in (None, float("nan"), float("inf"), True, 3, 2.0, 0.123)]
        ['-', '-', '∞', 'yes', '3', '2.00', '0.12']
    """
    if value is None:
        return "-"
    if isinstance(value, bool) or type(value).__name__ == "bool":  # NumPy's own is no bool
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, Real):
        each = float(value)
        if math.isnan(each):
            return "-"
        if math.isinf(each):
            return "∞" if each > 0 else "-∞"
        return f"{each:,.0f}" if abs(each) >= 10_000 else f"{each:.{digits}f}"
    return str(value)


def decibels(value: float) -> str:
    """A PSNR with one decimal, ``-`` where there is none.

    Example:
        >>> decibels(14.26), decibels(100.0), decibels(float("nan"))
        ('14.3 dB', '≥ 100 dB', '-')
    """
    if value >= MOST_DECIBELS:
        return f"≥ {MOST_DECIBELS:.0f} dB"
    return "-" if math.isnan(value) else f"{value:.1f} dB"


def listed(words: "list[str] | tuple[str, ...]", last: str = "and") -> str:
    """Words as a sentence names them.

    Example:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    *first, end = words
    return f"{', '.join(first)} {last} {end}" if first else end
