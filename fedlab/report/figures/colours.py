"""Colour of each defense, the same in every figure, and the greys of text and lines.

The first three colours are Okabe and Ito's, the others Paul Tol's muted scheme: colour-blind
readers tell both apart. Nobody tells more than eight colours in one figure apart, so figures name
what they draw as well.
"""

import re
from colorsys import hls_to_rgb
from functools import cache
from hashlib import sha256
from itertools import takewhile
from math import dist

from fedlab.core.errors import BadInput
from fedlab.defenses import DEFENSES

OPEN_COLOUR = "#D55E00"
"""Colour of clients without a defense."""

OTHER_COLOUR = "#CC79A7"
"""Colour of combinations of defenses."""

INK, FAINT, LINE = "#222222", "#767676", "#C8C8C8"

_JOINT = re.compile(r"\+(?=[a-z])")
"""Separator of two defenses in a label, but not the sign in ``1e+2``."""


@cache
def defense_colour(defense: str) -> str:
    """Colour of a defense in every figure, whatever its settings, as ``#rrggbb``.

    Built-in defenses and those of installed packages may declare a colour. All others get one that
    follows from the name alone, since showing a result must not import code that a scenario names.

    Args:
        defense: ``none``, or a name or label such as ``dp-sgd:noise_multiplier=2``.

    Example:
        >>> defense_colour("dp-sgd:noise_multiplier=2") == defense_colour("dp-sgd")
        True
        >>> defense_colour("dp-sgd+pruning") == OTHER_COLOUR
        True
    """
    name = without_settings(defense)
    if _JOINT.search(name):
        return OTHER_COLOUR
    return OPEN_COLOUR if name == "none" else _declared(name) or _derived(name)


def without_settings(defense: str) -> str:
    """The names of the defenses in a label, without their settings.

    Example:
        >>> without_settings("dp-sgd:noise_multiplier=1e+2+mine.module:Mine:rate=0.2")
        'dp-sgd+mine.module:Mine'
    """
    parts = (part.split(":") for part in _JOINT.split(defense))
    return "+".join(":".join(takewhile(lambda each: "=" not in each, part)) for part in parts)


def _declared(name: str) -> str | None:
    try:
        return DEFENSES.get(name).colour if name in DEFENSES.names else None
    except BadInput:  # an installed package that does not import must not cost a figure
        return None


def _derived(name: str) -> str:
    """Colour that follows from a name, at a distance from all colours that are in use."""
    built_in = (_declared(each) for each in DEFENSES.builtin)
    taken = [
        _channels(each) for each in (OPEN_COLOUR, OTHER_COLOUR, FAINT, LINE, *built_in) if each
    ]
    for attempt in range(100):
        digest = sha256(f"{name}{attempt}".encode()).digest()
        hue, light, strong = (part / 255 for part in digest[:3])
        colour = hls_to_rgb(hue, 0.3 + 0.3 * light, 0.4 + 0.4 * strong)
        if min(dist(colour, each) for each in taken) > 0.2:
            break
    return "#" + "".join(f"{round(255 * channel):02X}" for channel in colour)


def _channels(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
