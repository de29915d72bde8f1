"""Sections of a card, which HTML and Markdown lay out alike."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd

from fedlab.comparison import Comparison
from fedlab.metrics.verdict import CONSISTENT, MARGIN, POWERFUL, SUCCEEDS
from fedlab.report.card.taxonomy import letters_tested, tested_sentence
from fedlab.report.card.untested import DAMAGED, Tested, attacks_that_ran, untested
from fedlab.report.page.comparison_page import comparison_page
from fedlab.report.page.environment import environment_table
from fedlab.report.page.local_paths import source_of
from fedlab.report.page.page_content import PageContent
from fedlab.report.page.run_page import run_page
from fedlab.report.tables.naming import under
from fedlab.report.tables.numbers import counted, interval, listed
from fedlab.report.tables.table import Column, ReportTable
from fedlab.report.templates import render
from fedlab.report.verdicts.counts import percent_interval
from fedlab.results.attacks import ImageCounts, best_of_each, counted_images, scored_images
from fedlab.results.folder import RunFolder
from fedlab.scenario.reproducibility import repeatability
from fedlab.simulation.auditing import verdict_of

MOST_LINES = 12
"""Largest number of lines of a table on a card; a comparison has as many tables of privacy at most
as lines."""

_WORDS = ("“Leaks”", "“Recognisable”", "“Not shown”", "“Inconclusive”", "“Diagnostic”", "An ε")
"""First words of the explanations on the page that the card repeats."""

_VERSIONS = ("fedlab-privacy", "Python", "torch", "flwr", "system", "GPU")
"""Rows of the table of the environment that the card states."""


@dataclass(frozen=True)
class Section:
    """A part of a card.

    Attributes:
        title: Title of the part.
        sentences: Paragraphs.
        tables: Tables below them.
        points: Items of a list.
        command: Command line; empty for none.
    """

    title: str
    sentences: Sequence[str] = ()
    tables: Sequence[ReportTable] = ()
    points: Sequence[str] = ()
    command: str = ""


@dataclass(frozen=True)
class Card:
    """A card.

    Attributes:
        page: The page of the same run or comparison.
        sections: Parts in reading order.
    """

    page: PageContent
    sections: Sequence[Section]


def card_of(subject: RunFolder | Comparison) -> Card:
    """The content of a card.

    Raises:
        BadInput: If nothing has finished yet.
    """
    if isinstance(subject, RunFolder):
        page, runs = run_page(subject), [subject]
        found = page.missing.unless_damaged(lambda: subject.table("leakage"))
        leakage = None if found is None else found.assign(run=subject.path.name)
    else:
        page, runs = comparison_page(subject), [each.folder for each in subject.runs]
        leakage = pd.concat(
            [
                subject.leakage[_is_of(subject.leakage, each)].assign(run=each.folder.path.name)
                for each in subject.runs
            ]
        )
    groups = [] if leakage is None else list(_groups(leakage))
    letters = [] if leakage is None else letters_tested(attacks_that_ran(leakage))
    nothing = DAMAGED if leakage is None else "No image was attacked and scored."
    tested = Tested(
        scenarios=page.arms,
        leakage=leakage,
        clients={
            run.path.name: page.missing.unless_damaged(partial(run.table, "clients"))
            for run in runs
        },
        counts=[counted_images(rows) for *_, rows in groups],
        letters=letters,
    )
    limits = [*_unfinished(subject, page), *untested(tested), *_variation(subject, page)]
    ledgers = [replace(table, title=title) for title, table, _ in page.ledger]
    ledgers = ledgers[:1] if isinstance(subject, RunFolder) else ledgers
    more = [] if isinstance(subject, RunFolder) else _which_runs(subject, len(ledgers))
    sections = [
        Section("Question", [page.question]),
        Section("Answer", points=[f"{e.threat}: {e.word}. {e.sentence}" for e in page.verdicts]),
        Section("What leaked", tables=[_counts_table(groups), _attacks_table(groups)])
        if groups
        else Section("What leaked", [nothing]),
        Section(
            "Privacy spent and certified",
            [*_audits(runs, page), *more],
            [e.shortened(MOST_LINES, "ledger.csv") for e in ledgers[:MOST_LINES]],
        ),
        Section("What was not tested", points=limits),
        Section(
            "Who attacks",
            [DAMAGED if leakage is None else tested_sentence(letters)],
            points=[f"{term}: {text}" for term, text in page.threat_model],
        ),
        Section("What the words mean", points=_explanations(page)),
        Section("How to repeat it", _repeat(subject, page), command=page.again),
    ]
    return Card(page, sections)


def _is_of(leakage: pd.DataFrame, run: object) -> "pd.Series[bool]":
    return (leakage[["defense", "rule", "grid", "seed"]] == _whose(run)).all(axis="columns")


def _whose(run: object) -> list[object]:
    return [getattr(run, name) for name in ("defense", "rule", "grid", "seed")]


def _groups(leakage: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Rows of ``scored_images`` by what is counted apart, with its name and its threat."""
    arms = [name for name in ("defense", "grid") if name in leakage]
    for key, rows in scored_images(leakage).groupby(["threat", *arms], sort=False):
        threat, *arm = map(str, key)
        name = f"{under(arm[0])}{f' at {arm[1]}' * bool(arm[1])}" if arm else "all updates"
        yield name + ", malicious server" * (threat == "malicious"), threat, rows


def _counts_table(groups: Sequence[tuple[str, str, pd.DataFrame]]) -> ReportTable:
    numbers = ("images", "leak", "leaking share", "recognisable", "inconclusive", "no leak shown")
    rows = [(name, *_counts(counted_images(rows))) for name, _, rows in groups]
    table = ReportTable(
        "Images by their best grade under any attack",
        [Column("whose"), *(Column(each, "right") for each in numbers)],
        rows,
        "Leaking share: the 95 % interval, which one client's images alone do not have. "
        "Inconclusive: with those that were not attacked.",
    )
    return table.shortened(MOST_LINES, "leakage.csv")


def _counts(found: ImageCounts) -> tuple[str, ...]:
    share = f"{100 * found.leaking / found.images:.0f} %"
    share += f" ({percent_interval(found.low, found.high)})" * (found.clusters > 1)
    lost = f" ({found.skipped} not attacked)" * bool(found.skipped)
    rest = found.images - found.leaking - found.recognisable - found.inconclusive
    return (
        *map(str, (found.images, found.leaking)),
        share,
        str(found.recognisable),
        f"{found.inconclusive}{lost}",
        str(rest),
    )


def _attacks_table(groups: Sequence[tuple[str, str, pd.DataFrame]]) -> ReportTable:
    rows = []
    for name, _, each in groups:
        for attack, own in best_of_each(each).groupby("attack", sort=False):
            power = own["power"].dropna()
            shares = [f"{value:.2f}" for value in (power.min(), power.max())]
            text = interval(*shares) if len(power) else "not measured"
            settings = listed(sorted(set(own["setting"])))
            rows.append((name, attack, str(len(own)), str(int(own["leaks"].sum())), text, settings))
    columns = [Column("whose"), Column("attack")]
    columns += [Column(each, "right") for each in ("images", "leak", "power")]
    table = ReportTable(
        "Attacks that ran",
        [*columns, Column("setting")],
        rows,
        "Power: the share of surrogate victims without a defense that leak to the same attack. "
        f"Below {POWERFUL:g} an image that does not leak is inconclusive.",
        names=2,
    )
    return table.shortened(MOST_LINES, "leakage.csv")


def _unfinished(subject: RunFolder | Comparison, page: PageContent) -> list[str]:
    if isinstance(subject, RunFolder):
        done, planned = subject.rounds()[-1].round, page.scenario.rounds
        return [f"{planned - done} of {counted(planned, 'round')} have not run."] * (done < planned)
    if not subject.failures:
        return []
    runs = counted(len(subject.failures) + len(subject.runs), "run")
    names = listed(list(subject.failures))
    return [f"{len(subject.failures)} of {runs} have no result: {names}."]


def _variation(subject: RunFolder | Comparison, page: PageContent) -> list[str]:
    one = isinstance(subject, RunFolder) or page.seeds == 1
    seed = ["Only one seed ran, so the variation of these results is unknown."] * one
    return [*seed, *_items(page, ("The results hold",))]


def _which_runs(comparison: Comparison, tables: int) -> list[str]:
    """Which runs the tables of privacy are of, where they are not of all."""
    first = "Each table is of the first run of a defense; the answer above has the ε of all runs."
    left = tables - MOST_LINES
    more = [f"Tables of {counted(left, 'further defense')} are on the whole page."] * (left > 0)
    return [first] * (len(comparison.runs) > tables) + more


def _audits(runs: Sequence[RunFolder], page: PageContent) -> list[str]:
    found = []
    for run in runs:
        if run.scenario.audit is not None:
            verdict = page.missing.unless_damaged(partial(verdict_of, run))
            found += [f"Audit of {verdict}."] * (verdict is not None)
    return found[:MOST_LINES]


def _explanations(page: PageContent) -> list[str]:
    return _items(page, _WORDS)


def _items(page: PageContent, beginnings: tuple[str, ...]) -> list[str]:
    """Explanations of the whole page that begin with one of the words."""
    text = render(
        "interpretation.html",
        page=page,
        margin=MARGIN,
        consistent=CONSISTENT,
        succeeds=SUCCEEDS,
        source=source_of(page.scenario),
        repeatability=repeatability(page.arms),
    )
    items = (str(type(text)(each).unescape()) for each in re.findall(r"<li>(.*?)</li>", text, re.S))
    return [" ".join(each.split()) for each in items if each.startswith(beginnings)]


def _repeat(subject: RunFolder | Comparison, page: PageContent) -> list[str]:
    facts = [
        (str(name), str(value)) for name, value in environment_table(page.first, page.arms).rows
    ]
    versions = ", ".join(f"{name} {value}" for name, value in facts if name in _VERSIONS)
    if isinstance(subject, RunFolder):
        seeds = f"Seed {page.scenario.seed}"
        file = "scenario.toml is in the folder of the run."
    else:
        seeds = f"Seeds {listed(list(map(str, subject.seeds)))}"
        file = "scenario.toml is on the page that fedlab report writes."
    about = f"{seeds}; {versions or 'versions unknown: no environment.json can be read'}."
    return [about, f"{file} {repeatability(page.arms)}"]
