"""Levels of 8-bit pixels."""

WHITE = 255
"""Largest value of an 8-bit pixel."""


def whole_levels(epsilon: float) -> int:
    """Largest change of a uint8 pixel that stays within epsilon.

    Args:
        epsilon: Largest change where pixels are in [0, 1].

    Example:
        >>> whole_levels(16 / 255), whole_levels(0.05)
        (16, 12)
    """
    # 16 / 255 * 255 may come out a little below 16.
    return int(epsilon * WHITE + 1e-6)
