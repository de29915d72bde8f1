"""Colour of each defense, the same in every figure, and the greys of text and lines.

The first three colours are Okabe and Ito's, the others Paul Tol's muted scheme: colour-blind
readers tell both apart. Nobody tells more than eight colours in one figure apart, so figures name
what they draw as well.
"""

import re
from colorsys import hls_to_rgb
from functools import cache
from hashlib import sha256
from math import dist

from matplotlib.colors import to_hex, to_rgb

DEFENSE_COLOURS = {
    "none": "#D55E00",
    "dp-sgd": "#0072B2",
    "dp-instahide": "#009E73",
    "mixup": "#999933",
    "cutmix": "#AA4499",
    "cutout": "#DDCC77",
    "maxup": "#882255",
    "flip-crop": "#88CCEE",
    "adversarial-poisoning": "#332288",
    "soteria": "#44AA99",
    "clip-noise": "#56B4E9",
    "pruning": "#CC6677",
    "quantisation": "#117733",
    "leakage-gate": "#E69F00",
    "secure-aggregation": "#555555",
}

OTHER_COLOUR = "#CC79A7"
"""Colour of combinations of defenses."""

INK, FAINT, LINE = "#222222", "#767676", "#C8C8C8"

_JOINT = re.compile(r"\+(?=[a-z])")
"""Separator of two defenses in a label, but not the sign in ``1e+2``."""


def defense_colour(defense: str) -> str:
    """Colour of a defense in every figure, whatever its settings.

    Args:
        defense: Name, or label with settings such as ``dp-sgd:noise_multiplier=2``.

    Example:
        >>> defense_colour("dp-sgd:noise_multiplier=2") == defense_colour("dp-sgd")
        True
        >>> defense_colour("dp-sgd+pruning") == OTHER_COLOUR
        True
    """
    first, *others = _JOINT.split(defense)
    name = first.partition(":")[0]
    return OTHER_COLOUR if others else declared_colour(name) or derived_colour(name)


def declared_colour(name: str) -> str | None:
    """Colour that a defense declares for itself; ``None`` if it declares none."""
    return DEFENSE_COLOURS.get(name)


@cache
def derived_colour(name: str) -> str:
    """Colour computed from a name alone, equal on every machine and away from all other colours.

    Example:
        >>> derived_colour("mine") == derived_colour("mine") != derived_colour("yours")
        True
    """
    taken = [to_rgb(each) for each in (*DEFENSE_COLOURS.values(), OTHER_COLOUR, FAINT, LINE)]
    for attempt in range(100):
        digest = sha256(f"{name}{attempt}".encode()).digest()
        hue, light, strong = (part / 255 for part in digest[:3])
        colour = hls_to_rgb(hue, 0.3 + 0.3 * light, 0.4 + 0.4 * strong)
        if min(dist(colour, each) for each in taken) > 0.2:
            break
    return to_hex(colour)


def ink_on(colour: str | tuple[float, float, float] | tuple[float, float, float, float]) -> str:
    """Colour of text that can be read on a ground of some colour: black or white.

    The better of the two has a contrast of at least 4.5 to any ground, as WCAG 2 asks for.
    """
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    luminance = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), channels, strict=True))
    # Both have equal contrast at sqrt(1.05 * 0.05) - 0.05.
    return "#000000" if luminance > 0.179 else "#FFFFFF"
