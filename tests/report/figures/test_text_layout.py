"""Text is as wide as it is said to be, and is broken where it may be."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from fedlab.report.figures.sheet import Sheet
from fedlab.report.figures.text_layout import width, wrapped


@pytest.mark.parametrize("text", ["dp-sgd, epsilon 12.20", "two\nlines here", "$x_1$ ∞ ε"])
@pytest.mark.parametrize("bold", [False, True])
def test_the_width_is_what_is_drawn(text, bold):
    sheet = Sheet(6, 2)
    sheet.text(0, 0, text, size=9, bold=bold)
    sheet.figure.set_dpi(300)
    (drawn,) = sheet.figure.texts
    box = drawn.get_window_extent(FigureCanvasAgg(sheet.figure).get_renderer())
    assert width(text, 9, bold=bold) == pytest.approx(box.width / 300, rel=0.03)


@pytest.mark.parametrize("room", [0.3, 0.8, 1.5, 4.0])
@pytest.mark.parametrize(
    "text", ["one two three four", "dp-sgd:noise_multiplier=2:clipping_norm=0.5+pruning", "x" * 60]
)
def test_lines_fit_and_nothing_is_lost(text, room):
    lines = wrapped(text, 8, room)
    assert all(width(line, 8) <= room for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_words_stay_whole():
    assert wrapped("secure-aggregation of images", 8, 1.2) == ["secure-aggregation", "of images"]
    assert wrapped("", 8, 1.0) == [""]
