"""The page of a long run stays small, counts all rounds, and says what it leaves out."""

from dataclasses import replace

import pytest

from fedlab.evaluation.leaks import load_leaks, save_leaks
from fedlab.privacy.ledger import Ledger
from fedlab.privacy.release import PrivacyRelease
from fedlab.report.figures.timeline import MOST_BINS, MOST_MARKS
from fedlab.report.page import write_page
from fedlab.report.page.page_content import MOST_ROWS
from fedlab.report.page.run_page import run_page
from fedlab.results.folder import RunFolder
from tests.report.page.pages import Page, asks_nobody

ROUNDS, PICTURES = 1_200, 40


def released(round):
    """An open round, or in every 400th one of DP-SGD."""
    if round % 400:
        return PrivacyRelease(round, round - 1, "none")
    return PrivacyRelease(
        round, round - 1, "dp-sgd", noise_multiplier=1.0, sample_rate=0.1, steps=3, clipping_norm=1
    )


@pytest.fixture(scope="module")
def run(attacked, tmp_path_factory):
    """The first round of a run over and over, with pictures of some rounds."""
    scenario = attacked.scenario.changed(rounds=ROUNDS)
    run = RunFolder.create(tmp_path_factory.mktemp("long") / "run", scenario)
    start, first, _ = attacked.rounds()
    numbers = range(1, ROUNDS + 1)
    for row in (start, *(replace(first, round=number) for number in numbers)):
        run.append_round(row)
    for name in ("clients", "leakage"):
        lines = (attacked.path / f"{name}.csv").read_text().splitlines()
        again = [line for line in lines[1:] if line.startswith("1,")]
        rows = [f"{number}{line[1:]}" for number in numbers for line in again]
        (run.path / f"{name}.csv").write_text("\n".join([lines[0], *rows]) + "\n")
    history = tuple(map(released, numbers))
    run.note_spending(dict.fromkeys(range(4), history))
    run.append("ledger", Ledger(dict.fromkeys(range(4), history)).rows())
    run.seal_ledger()
    leaks = load_leaks(attacked.leaks(1))
    for number in numbers[:: ROUNDS // PICTURES]:
        moved = [
            replace(leak, rows=tuple(replace(row, round=number) for row in leak.rows))
            for leak in leaks
        ]
        save_leaks(run.leaks(number), moved)
    return run


@pytest.fixture(scope="module")
def text(run, tmp_path_factory):
    return write_page(run, tmp_path_factory.mktemp("page") / "p.html").read_text(encoding="utf-8")


def test_page_of_a_long_run_is_small(text):
    assert asks_nobody(text)
    page = Page(text)
    assert len(text) < 2_500_000
    assert len(page.all("tr")) < 4 * (MOST_ROWS + 2) + 200


def test_tables_say_what_they_leave_out(run, text):
    words = Page(text).text
    whole = f"{MOST_ROWS // 2} and the last {MOST_ROWS // 2} of"
    assert f"Round by round ({ROUNDS + 1} rows)" in words
    assert f"{whole} {ROUNDS + 1:,} rows; all: rounds.jsonl" in words
    assert f"{whole} {4 * ROUNDS:,} rows; all: clients.csv" in words
    assert f"{whole} {2 * ROUNDS:,} rows; all: leakage.csv" in words
    tables = {title: table for title, table, _ in run_page(run).tables}
    rows = tables["Round by round"].rows
    assert [rows[0][0], rows[-1][0]] == [0, ROUNDS]


def test_verdict_counts_every_round(run):
    training, leak, *_ = run_page(run).verdicts
    assert training.word == "learned nothing"
    images = len(run.table("leakage")) // 2  # each is attacked twice
    assert f"{images} of {images} images leak" in leak.sentence


def test_pictures_are_of_some_rounds_and_say_so(run):
    figure = run_page(run).figures["images"]()
    titled = [axes for axes in figure.axes if axes.get_title("left")]
    assert len(titled) == 8
    assert f"Left out: {PICTURES - 8} of {PICTURES} attacked rounds (31,61," in figure.alt


def test_timeline_draws_no_more_than_can_be_seen(run):
    figure = run_page(run).figures["timeline"]()
    shares, model, seen, _ = figure.axes
    for band in shares.patches:
        assert len(band.get_data().values) <= MOST_BINS
    assert len(model.patches) <= MOST_BINS
    marks = [line for line in seen.lines if line.get_marker() == "o"]
    assert 0 < sum(len(line.get_xdata()) for line in marks) < MOST_MARKS
    images = len(run.table("leakage")) // 2
    assert f"{images} of {images} images leak" in figure.alt
    assert "drawn once" in figure.alt
    assert "over 5 rounds together" in figure.alt


def test_epsilons_of_rounds_are_those_of_the_ledger(run):
    rows = {row[0]: row for title, table, _ in run_page(run).tables[:1] for row in table.rows}
    ledger = run.ledger()
    for round in (1, 1_000, ROUNDS):
        expected = ledger.until(round).protected(0)
        found = rows[round][4]
        assert found == expected or (expected is None and found != found)
