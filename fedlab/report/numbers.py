"""Numbers as people read them."""

import math


def number(value: float | None) -> str:
    """An epsilon with two decimals; whole once it has four digits, and never rounded to 0."""
    if value is None:
        return "-"
    if math.isinf(value):
        return "∞"
    if 0 < value < 0.005:
        return "< 0.01"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.2f}"
