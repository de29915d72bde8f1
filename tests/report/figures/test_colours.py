"""A defense keeps its colour with any settings, and text is read on any ground."""

import pytest
from matplotlib.colors import to_rgb

from fedlab.report.figures.colours import DEFENSE_COLOURS, OTHER_COLOUR, defense_colour, ink_on


@pytest.mark.parametrize("defense", DEFENSE_COLOURS)
def test_settings_do_not_change_the_colour(defense):
    assert defense_colour(f"{defense}:a=0.5:b=1e+2") == DEFENSE_COLOURS[defense]
    assert defense_colour(f"{defense}:a=1+mixup") == OTHER_COLOUR


def luminance(colour):
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


@pytest.mark.parametrize(
    "ground", [*DEFENSE_COLOURS.values(), OTHER_COLOUR, *(f"{g / 20}" for g in range(21))]
)
def test_text_has_contrast_on_any_ground(ground):
    light, dark = sorted((luminance(ground), luminance(ink_on(to_rgb(ground)))), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5
