"""Names of defenses in tables, figures and sentences."""

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
