"""The page of a run."""

import shlex
from collections.abc import Callable
from functools import partial

import pandas as pd

from fedlab.core.errors import BadInput
from fedlab.privacy.ledger import Ledger
from fedlab.report.figures.bounds import bounds_figure
from fedlab.report.figures.chance import chance_figure
from fedlab.report.figures.leaks import run_figure
from fedlab.report.figures.ledger import ledger_figure
from fedlab.report.figures.sheet import NothingToDraw, Picture
from fedlab.report.figures.timeline import timeline_figure
from fedlab.report.page.local_paths import source_of
from fedlab.report.page.page_content import (
    MOST_ROWS,
    FoldedTable,
    Missing,
    PageContent,
    csv_table,
    leakage_table,
)
from fedlab.report.page.research_question import research_question
from fedlab.report.page.threat_model import threat_model
from fedlab.report.page.viewer import viewer_of
from fedlab.report.tables.ledger import clients_table, ledger_table
from fedlab.report.tables.naming import spelled
from fedlab.report.tables.rounds import rounds_table
from fedlab.report.tables.table import ReportTable
from fedlab.report.verdicts.learning import learning_verdicts
from fedlab.report.verdicts.run import Verdict, leak_verdicts, poison_verdict, privacy_verdict
from fedlab.results.folder import RunFolder
from fedlab.results.rows import RoundRow
from fedlab.simulation.auditing import verdict_of


def run_page(run: RunFolder) -> PageContent:
    """The content of a run's page.

    Raises:
        BadInput: If no round has finished yet.
    """
    missing = Missing()
    scenario, rounds = run.scenario, _rounds(run)
    ledger = missing.unless_damaged(run.ledger)
    leakage = missing.unless_damaged(lambda: run.table("leakage"))
    tables = _tables(run, ledger, leakage, missing)
    return PageContent(
        kind="Run",
        folder=run.path,
        first=run.path,
        facts=[
            f"{rounds[-1].round} of {scenario.rounds} rounds",
            f"{scenario.data.clients} clients",
            source_of(scenario),
            scenario.model.name,
            scenario.server.strategy,
            f"seed {scenario.seed}",
        ],
        question=research_question(scenario),
        verdicts=[
            *learning_verdicts(rounds),
            *([_unknown("Leak")] if leakage is None else leak_verdicts(leakage)),
            poison_verdict(scenario, rounds),
            _unknown("Privacy spent") if ledger is None else privacy_verdict(ledger),
            *[Verdict("Damaged file", "left out", f"{each}.") for each in missing.sentences],
        ],
        threat_model=threat_model(scenario),
        figures={
            "timeline": partial(timeline_figure, run),
            "images": partial(run_figure, run),
            **({} if leakage is None else _leakage_figures(run, leakage)),
            **({} if ledger is None else {"ledger": partial(_ledger, ledger)}),
        },
        tables=tables,
        ledger=[]
        if ledger is None
        else [
            ("Client by client", _short(clients_table(ledger, scenario), "ledger.csv"), True),
            ("Round by round", _short(ledger_table(ledger), "ledger.csv"), None),
        ],
        scenario=scenario,
        file=scenario,
        again="fedlab run scenario.toml --out again",
        arms=[scenario],
        viewer=partial(viewer_of, {run.path.name: run}),
        missing=missing,
    )


def _rounds(run: RunFolder) -> list[RoundRow]:
    try:
        rounds = run.rounds()
    except BadInput as error:
        raise BadInput(
            f"{error}; the other tables can be had with `fedlab export --to csv`, and epsilon with "
            "`fedlab ledger`"
        ) from error
    if not rounds or rounds[-1].round == 0:
        raise BadInput(
            f"{run.path} has no finished round, so there is nothing to report: go on with "
            f"`fedlab resume {shlex.quote(str(run.path))}`"
        )
    return rounds


def _unknown(threat: str) -> Verdict:
    return Verdict(threat, "unknown", "The file that says so is damaged; see below.")


def _leakage_figures(run: RunFolder, leakage: pd.DataFrame) -> dict[str, Callable[[], Picture]]:
    return {
        "chance": partial(chance_figure, leakage, by="defenses"),
        "audit": partial(_audit, run, leakage),
    }


def _ledger(ledger: Ledger) -> Picture:
    if not any(map(ledger.protects, ledger.accounts)):
        raise NothingToDraw("no round was under a mechanism that has an epsilon")
    return ledger_figure(ledger)


def _audit(run: RunFolder, leakage: pd.DataFrame) -> Picture:
    if run.scenario.audit is None:
        raise NothingToDraw("the run has no audit")
    return bounds_figure(verdict_of(run), leakage)


def _missing(clients: pd.DataFrame) -> list[FoldedTable]:
    """Which clients were missing or refused in which rounds, and why; no table if none was."""
    lost = clients[clients["status"] == "refused"]
    rows = [
        {"client": client, "rounds": spelled(each["round"]), "reason": reason}
        for (client, reason), each in lost.groupby(["client", "reason"])
    ]
    title = "Clients that were missing or refused"
    table = csv_table(pd.DataFrame(rows), title, file="clients.csv", names=1, open=True)
    return [table] * bool(rows)


def _tables(
    run: RunFolder, ledger: Ledger | None, leakage: pd.DataFrame | None, missing: Missing
) -> list[FoldedTable]:
    note = "From clients.csv. Update norm: L2 norm of the client's change of the model."
    clients = missing.unless_damaged(lambda: run.table("clients"))
    toggles = pd.DataFrame(missing.unless_damaged(run.toggles)).astype(str)
    whole = ledger is not None and leakage is not None and clients is not None
    tables: list[FoldedTable] = []
    if ledger is not None and whole:
        files = "rounds.jsonl, leakage.csv and ledger.csv"
        tables.append(("Round by round", _short(rounds_table(run, ledger), files), None))
    if clients is not None:
        shown = clients.dropna(axis="columns", how="all")
        tables.append(csv_table(shown, "Clients, round by round", note, file="clients.csv"))
    tables += [] if clients is None else _missing(clients)
    tables += [] if leakage is None else leakage_table(leakage)
    if not toggles.empty:
        title = "Toggles during the run"
        tables.append(csv_table(toggles, title, file="toggles.jsonl", names=1))
    return tables


def _short(table: ReportTable, file: str) -> ReportTable:
    return table.shortened(MOST_ROWS, file)
