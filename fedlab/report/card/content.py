"""The card of a run or a comparison."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pandas as pd

from fedlab.comparison import Comparison
from fedlab.metrics.verdict import CONSISTENT, MARGIN, SUCCEEDS
from fedlab.report.card.layout import MOST_LINES, Card, Section, items_of, versions_in
from fedlab.report.card.tables import attacks_table, counts_table, groups_of
from fedlab.report.card.untested import DAMAGED, Tested, attacks_that_ran, untested
from fedlab.report.page.comparison_page import comparison_page
from fedlab.report.page.environment import environment_table
from fedlab.report.page.local_paths import source_of
from fedlab.report.page.page_content import PageContent
from fedlab.report.page.run_page import run_page
from fedlab.report.tables.numbers import counted, listed
from fedlab.report.templates import render
from fedlab.report.verdicts.taxonomy import letters_tested, tested_sentence
from fedlab.results.attacks import counted_images
from fedlab.results.folder import RunFolder
from fedlab.scenario.reproducibility import repeatability
from fedlab.simulation.auditing import verdict_of

_WORDS = ("“Leaks”", "“Recognisable”", "“Not shown”", "“Inconclusive”", "“Diagnostic”", "An ε")
"""First words of the explanations on the page that the card repeats."""


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
    groups = [] if leakage is None else list(groups_of(leakage))
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
        Section("What leaked", tables=[counts_table(groups), attacks_table(groups)])
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
    return Card(page.file.name, page.kind, page.facts, sections, page.missing)


def _is_of(leakage: pd.DataFrame, run: object) -> "pd.Series[bool]":
    return (leakage[["defense", "rule", "grid", "seed"]] == _whose(run)).all(axis="columns")


def _whose(run: object) -> list[object]:
    return [getattr(run, name) for name in ("defense", "rule", "grid", "seed")]


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
    return [each for each in items_of(text) if each.startswith(beginnings)]


def _repeat(subject: RunFolder | Comparison, page: PageContent) -> list[str]:
    versions = versions_in(environment_table(page.first, page.arms))
    if isinstance(subject, RunFolder):
        seeds = f"Seed {page.scenario.seed}"
        file = "scenario.toml is in the folder of the run."
    else:
        seeds = f"Seeds {listed(list(map(str, subject.seeds)))}"
        file = "scenario.toml is on the page that fedlab report writes."
    about = f"{seeds}; {versions or 'versions unknown: no environment.json can be read'}."
    return [about, f"{file} {repeatability(page.arms)}"]
