"""Tables in HTML escape what is in them, keep alignment and line breaks, and fit any notebook."""

import math
import re

import pandas as pd
from markupsafe import Markup
from rich.table import Table

from fedlab.report.html.tables import facts_table, frame_table, html_table, rich_table
from tests.report.page.pages import Page, asks_nobody

EVIL = "<script>alert(1)</script>&\"'"


def test_everything_is_escaped():
    text = html_table([EVIL], [[EVIL]], caption=EVIL, note=EVIL) + facts_table([(EVIL, EVIL)])
    assert asks_nobody(text)
    assert Page(text).text.count("alert(1)") == 6


def test_what_is_html_already_is_kept():
    assert "<b>bold</b>" in html_table(["a"], [[Markup("<b>bold</b>")]])


def test_names_and_columns_have_a_scope_and_numbers_stand_right():
    page = Page(html_table(["name", "n"], [["a", 1], ["b", 2]], caption="what", right=[1]))
    assert [each["scope"] for each in page.all("th")] == ["col", "col", "row", "row"]
    assert all("text-align:right" in each["style"] for each in page.all("td"))
    assert "text-align:left" in page.all("th")[0]["style"]
    (region,) = page.all("div")
    assert "overflow-x:auto" in region["style"]
    assert region["aria-label"] == "what"


def test_line_breaks_are_kept_within_a_cell_only():
    assert html_table(["a\nb"], [["c\n"]]).count("<br>") == 1


def test_a_table_of_a_terminal():
    table = Table(title="title", caption="note")
    table.add_column("left")
    table.add_column("right", justify="right")
    table.add_row("a [bold]b", "1")
    page = Page(rich_table(table))
    assert "title" in page.text
    assert "note" in page.text
    assert "a [bold]b" in page.text
    assert "text-align:right" in page.all("td")[0]["style"]
    assert "other" in Page(rich_table(table, caption="other")).text


def test_numbers_of_a_frame():
    frame = pd.DataFrame(
        {"name": ["a", None], "x": [math.nan, math.inf], "n": [1, 2], "is": [True, False]}
    )
    page = Page(frame_table(frame, caption="numbers"))
    cells = re.sub(r"[^-∞\w ]", "", page.text).split()
    assert cells == ["numbers", "name", "x", "n", "is", "a", "-", "1", "yes", "-", "∞", "2", "no"]


def test_a_long_frame_says_how_long_it_is():
    page = Page(frame_table(pd.DataFrame({"n": range(2_000)}), most=5, note="A note."))
    assert len(page.all("tr")) == 6
    assert "A note. The first 5 of 2,000 rows." in page.text


def test_no_text_has_a_colour_of_its_own():
    text = html_table(["a"], [[1]], caption="b", note="c", right=[0]) + facts_table([("a", "b")])
    assert set(re.findall(r"(?<!-)color:([^;\"]*)", text)) == {"inherit"}
    assert "background" not in text
