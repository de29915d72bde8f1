"""One colour for each defense in every figure, and the greys of text and lines.

The first three are Okabe and Ito's, the others Paul Tol's muted scheme: both are told apart by
colour-blind readers. Nobody tells more than eight in one figure apart, so figures name what they
draw as well.
"""

import re

from matplotlib.colors import to_rgb

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
"""For combinations of defenses."""

INK, FAINT, LINE = "#222222", "#767676", "#C8C8C8"
FONT = "DejaVu Sans"  # comes with matplotlib, so text has the same width on every machine


_JOINT = re.compile(r"\+(?=[a-z])")
"""Between two defenses of a label, and not in ``1e+2``."""


def defense_colour(defense: str) -> str:
    """The colour of a defense in every figure, whatever its settings.

    Args:
        defense: Its name, or a label with settings such as ``dp-sgd:noise_multiplier=2``.

    Example:
        >>> defense_colour("dp-sgd:noise_multiplier=2") == defense_colour("dp-sgd")
        True
        >>> defense_colour("dp-sgd+pruning") == OTHER_COLOUR
        True
    """
    first, *others = _JOINT.split(defense)
    return OTHER_COLOUR if others else DEFENSE_COLOURS.get(first.partition(":")[0], OTHER_COLOUR)


def ink_on(colour: str | tuple[float, float, float] | tuple[float, float, float, float]) -> str:
    """The colour of text that is read on a ground of some colour: black or white.

    The better of the two has a contrast of at least 4.5 to any ground, as WCAG 2 asks for.
    """
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    luminance = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), channels, strict=True))
    # Of equal contrast with both at sqrt(1.05 * 0.05) - 0.05.
    return "#000000" if luminance > 0.179 else "#FFFFFF"
