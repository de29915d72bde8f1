"""The page of a run."""

import shlex
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
from fedlab.report.page.page_content import FoldedTable, PageContent, csv_table, leakage_table
from fedlab.report.page.research_question import research_question
from fedlab.report.page.threat_model import threat_model
from fedlab.report.tables.ledger import clients_table, ledger_table
from fedlab.report.tables.rounds import rounds_table
from fedlab.report.verdicts.run import leak_verdicts, poison_verdict, privacy_verdict
from fedlab.results.folder import RunFolder
from fedlab.simulation.auditing import verdict_of


def run_page(run: RunFolder) -> PageContent:
    """The content of a run's page.

    Raises:
        BadInput: If no round has finished yet.
    """
    scenario, rounds = run.scenario, run.rounds()
    if not rounds or rounds[-1].round == 0:
        raise BadInput(
            f"{run.path} has no finished round, so there is nothing to report: go on with "
            f"`fedlab resume {shlex.quote(str(run.path))}`"
        )
    ledger, leakage = run.ledger(), run.table("leakage")
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
            *leak_verdicts(leakage),
            poison_verdict(scenario, rounds),
            privacy_verdict(ledger),
        ],
        threat_model=threat_model(scenario),
        figures={
            "timeline": partial(timeline_figure, run),
            "images": partial(run_figure, run),
            "chance": partial(chance_figure, leakage, by="defenses"),
            "ledger": partial(_ledger, ledger),
            "audit": partial(_audit, run, leakage),
        },
        tables=_tables(run, ledger, leakage),
        ledger=[
            ("Client by client", clients_table(ledger, scenario), True),
            ("Round by round", ledger_table(ledger), None),
        ],
        scenario=scenario,
        file=scenario,
        again="fedlab run scenario.toml --out again",
        arms=[scenario],
    )


def _ledger(ledger: Ledger) -> Picture:
    if not any(map(ledger.protects, ledger.accounts)):
        raise NothingToDraw("no round was under a mechanism that has an epsilon")
    return ledger_figure(ledger)


def _audit(run: RunFolder, leakage: pd.DataFrame) -> Picture:
    if run.scenario.audit is None:
        raise NothingToDraw("the run has no audit")
    return bounds_figure(verdict_of(run), leakage)


def _tables(run: RunFolder, ledger: Ledger, leakage: pd.DataFrame) -> list[FoldedTable]:
    clients = run.table("clients").dropna(axis="columns", how="all")
    note = "From clients.csv. Update norm: L2 norm of the client's change of the model."
    toggles = pd.DataFrame(run.toggles()).astype(str)
    return [
        ("Round by round", rounds_table(run, ledger), None),
        csv_table(clients, "Clients, round by round", note),
        *leakage_table(leakage),
        *[csv_table(toggles, "Toggles during the run", names=1)] * (not toggles.empty),
    ]
