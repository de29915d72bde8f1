import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from fedlab.core.errors import BadInput
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


@pytest.fixture
def question():
    with styled():
        picture = new_picture(5, 2, title="Which of them?", notes=["A note on ε."])
        picture.subplots().set_xlabel("round")
    return picture


def test_a_pdf_embeds_fonts_for_papers(question, tmp_path):
    content = question.save(tmp_path / "a.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert b"/FontFile2" in content  # TrueType
    assert b"/Type3" not in content
    assert question.save(tmp_path / "b.pdf").read_bytes() == content


def test_text_of_an_svg_is_text(question, tmp_path):
    text = question.save(tmp_path / "a.svg").read_text(encoding="utf-8")
    assert ">Which of them?</text>" in text
    assert ">A note on ε.</text>" in text
    assert question.save(tmp_path / "b.SVG").read_text(encoding="utf-8") == text


def test_a_title_can_be_left_out(question, tmp_path):
    text = question.save(tmp_path / "a.svg", title=False).read_text(encoding="utf-8")
    assert "Which" not in text
    assert ">round</text>" in text
    sizes = []
    for title in (True, False, True):
        with Image.open(question.save(tmp_path / "a.png", title=title)) as image:
            sizes.append(image.size)
    assert sizes[0] == sizes[2]
    assert sizes[0][0] == sizes[1][0]
    assert sizes[0][1] - sizes[1][1] > 30


def test_unknown_endings_and_places_are_refused(question, tmp_path):
    with pytest.raises(BadInput, match=r"no figure can be written as \.doc; formats: .*pdf"):
        question.save(tmp_path / "a.doc", title=False)
    with pytest.raises(BadInput, match="cannot be written"):
        question.save(tmp_path / "no" / "a.pdf")
    assert not list(tmp_path.iterdir())
    assert question.get_figheight() > 2
