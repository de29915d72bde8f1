from math import dist

import pytest
from matplotlib.colors import to_rgb

from fedlab.defenses import DEFENSES
from fedlab.report.figures.colours import FAINT, LINE, OTHER_COLOUR, defense_colour
from fedlab.report.figures.sheet import ink_on

COLOURS = {name: defense_colour(name) for name in ("none", *DEFENSES.builtin)}


@pytest.mark.parametrize("defense", COLOURS)
def test_settings_do_not_change_the_colour(defense):
    assert defense_colour(f"{defense}:a=0.5:b=1e+2") == COLOURS[defense]
    assert defense_colour(f"{defense}:a=1+mixup") == OTHER_COLOUR


def test_defenses_have_the_colour_that_they_declare():
    declared = {name: DEFENSES.get(name).colour for name in DEFENSES.builtin}
    assert declared.items() <= COLOURS.items()
    assert len(set(COLOURS.values())) == len(COLOURS)


def test_foreign_defenses_have_distinct_colours():
    names = [f"my-defense-{number}" for number in range(20)]
    colours = [defense_colour(name) for name in names]
    assert colours == [defense_colour(f"{name}:rate=0.5") for name in names]
    assert defense_colour("my.module:Mine:rate=1") == defense_colour("my.module:Mine")
    assert defense_colour("my.module:Mine") != defense_colour("my.module:Other")
    assert defense_colour("my-defense-1+mixup") == OTHER_COLOUR
    assert defense_colour("my-defense-0") == "#40BF61"  # on every machine
    assert len(set(colours)) == 20
    for colour in colours:
        for other in (*COLOURS.values(), OTHER_COLOUR, FAINT, LINE):
            assert dist(to_rgb(colour), to_rgb(other)) > 0.2


def luminance(colour):
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


@pytest.mark.parametrize(
    "ground", [*COLOURS.values(), OTHER_COLOUR, *(f"{g / 20}" for g in range(21))]
)
def test_text_has_contrast_on_any_ground(ground):
    light, dark = sorted((luminance(ground), luminance(ink_on(to_rgb(ground)))), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5
