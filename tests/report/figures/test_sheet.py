import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from fedlab.report.figures.sheet import new_picture, styled, width_of, wrapped
from tests.report.legible import assert_legible


@pytest.mark.parametrize("text", ["dp-sgd, epsilon 12.20", "two\nlines here", "$x_1$ ∞ ε"])
@pytest.mark.parametrize("bold", [False, True])
def test_measured_widths_are_those_drawn(text, bold):
    with styled():
        picture = new_picture(6, 2, title="Which?")
        drawn = picture.text(0, 0, text, size=9, weight="bold" if bold else "normal")
    picture.set_dpi(300)
    box = drawn.get_window_extent(FigureCanvasAgg(picture).get_renderer())
    assert width_of(text, 9, bold) == pytest.approx(box.width / 300, rel=0.03)


@pytest.mark.parametrize("room", [0.3, 0.8, 1.5, 4.0])
@pytest.mark.parametrize(
    "text", ["one two three four", "dp-sgd:noise_multiplier=2:clipping_norm=0.5+pruning", "x" * 60]
)
def test_lines_fit_and_nothing_is_lost(text, room):
    lines = wrapped(text, room).split("\n")
    assert all(width_of(line.rstrip()) <= room for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_words_stay_whole():
    assert wrapped("secure-aggregation of images", 1.2) == "secure-aggregation\nof images"
    assert wrapped("a long_name_of_parts", 0.9) == "a\nlong_name_of_\nparts"
    assert wrapped("", 1.0) == ""


def test_long_titles_and_notes_can_be_read():
    with styled():
        picture = new_picture(
            5, 2, title="Which of them? " * 9, notes=["This note. " * 30, "Or $1."]
        )
        picture.subplots().set_xlabel("round")
    assert_legible(picture)
