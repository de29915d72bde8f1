"""What a defense is called where there may be none."""

UNDEFENDED = "none"
"""What tables write where no defense is on."""

OPEN = "open"
"""What figures call it."""


def named(defenses: str) -> str:
    """Names joined by ``+`` as they are, and ``open`` for none: the name of a row or a band.

    Example:
        >>> named("dp-sgd"), named("none")
        ('dp-sgd', 'open')
    """
    return OPEN if defenses == UNDEFENDED else defenses


def under(defenses: str) -> str:
    """The same within a sentence.

    Example:
        >>> under("dp-sgd"), under("none")
        ('under dp-sgd', 'without a defense')
    """
    return "without a defense" if defenses == UNDEFENDED else f"under {defenses}"
