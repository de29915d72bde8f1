"""Tables in HTML are escaped, keep alignment and line breaks, and fit light and dark notebooks."""

import math
import re

import pandas as pd
from markupsafe import Markup

from fedlab.report.tables.table import Column, ReportTable, facts_table, frame_table
from tests.report.page.pages import Page, asks_nobody

EVIL = "<script>alert(1)</script>&\"'"


def html(headers, rows, *, right=(), title="", note=""):
    columns = [
        Column(name, "right" if place in right else "left") for place, name in enumerate(headers)
    ]
    return ReportTable(title, columns, rows, note).__html__()


def test_everything_is_escaped():
    text = html([EVIL], [[EVIL]], title=EVIL, note=EVIL) + facts_table({EVIL: EVIL}).__html__()
    assert asks_nobody(text)
    assert Page(text).text.count("alert(1)") == 6


def test_html_values_are_kept():
    assert "<b>bold</b>" in html(["a"], [[Markup("<b>bold</b>")]])


def test_headers_have_scope_and_numbers_are_right_aligned():
    page = Page(html(["name", "n"], [["a", 1], ["b", 2]], title="what", right=[1]))
    assert [each["scope"] for each in page.all("th")] == ["col", "col", "row", "row"]
    assert all("text-align:right" in each["style"] for each in page.all("td"))
    assert "text-align:left" in page.all("th")[0]["style"]
    (region,) = page.all("div")
    assert "overflow-x:auto" in region["style"]
    assert region["aria-label"] == "what"


def test_line_breaks_are_kept_within_cells_only():
    assert html(["a\nb"], [["c\n"]]).count("<br>") == 1


def test_terminal_and_html_show_the_same_table(console_text):
    columns = [Column("left"), Column("right", "right"), Column("wide", terminal=False)]
    table = ReportTable("title", columns, [["a [bold]b", 1.5, "only here"]], "note")
    page, text = Page(table.__html__()), console_text(table)
    for words in ("title", "note", "a [bold]b", "1.50"):
        assert words in page.text
        assert words in text
    assert "only here" in page.text
    assert "only here" not in text
    assert "text-align:right" in page.all("td")[0]["style"]


def test_numbers_of_a_frame():
    frame = pd.DataFrame(
        {"name": ["a", None], "x": [math.nan, math.inf], "n": [1, 2], "is": [True, False]}
    )
    page = Page(frame_table(frame, title="numbers").__html__())
    cells = re.sub(r"[^-∞\w ]", "", page.text).split()
    assert cells == ["numbers", "name", "x", "n", "is", "a", "-", "1", "yes", "-", "∞", "2", "no"]


def test_long_table_keeps_first_and_last_rows(console_text):
    whole = frame_table(pd.DataFrame({"n": range(2_000)}), note="A note.")
    table = whole.shortened(5, "numbers.csv")
    assert [row[0] for row in table.cells] == ["0", "1", "2", "⋮", "1998", "1999"]
    assert table.count == whole.count == 2_000
    note = "A note. The first 3 and the last 2 of 2,000 rows; all: numbers.csv."
    assert note in Page(table.__html__()).text
    assert "⋮" in console_text(table)
    assert whole.shortened(2_000, "numbers.csv") is whole


def test_no_text_has_a_colour_of_its_own():
    text = html(["a"], [[1]], title="b", note="c", right=[0]) + facts_table({"a": "b"}).__html__()
    assert set(re.findall(r"(?<!-)color:([^;\"]*)", text)) == {"inherit"}
    assert "background" not in text
