"""One colour for each defense in every figure, and the greys of text and lines.

The first three are Okabe and Ito's, the others Paul Tol's muted scheme: both are told apart by
colour-blind readers. Nobody tells more than eight in one figure apart, so figures name what they
draw as well.
"""

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


def defense_colour(defense: str) -> str:
    """The colour of a defense in every figure."""
    return DEFENSE_COLOURS.get(defense, OTHER_COLOUR)
