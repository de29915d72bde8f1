"""The page of a run."""

import json
import shlex
from pathlib import Path

import pandas as pd

from fedlab.core.errors import BadInput
from fedlab.privacy.ledger import Ledger
from fedlab.report.figures.chance import chance_figure
from fedlab.report.figures.leaks import run_figure
from fedlab.report.figures.sheet import NothingToDraw
from fedlab.report.figures.timeline import timeline_figure
from fedlab.report.html.scenario import schedule_table
from fedlab.report.html.tables import frame_table, rich_table
from fedlab.report.page.content import Command, Content, Folded
from fedlab.report.page.environment import environment_table
from fedlab.report.page.meaning import meaning
from fedlab.report.page.pictures import Planned, shown
from fedlab.report.page.places import put_beside, source_of, toml_of
from fedlab.report.page.question import question
from fedlab.report.page.threat_model import threat_model
from fedlab.report.tables.ledger import clients_table, ledger_table
from fedlab.report.tables.rounds import rounds_table
from fedlab.report.verdicts.run import leak_verdicts, poison_verdict, privacy_verdict, scored_images
from fedlab.results.folder import RunFolder
from fedlab.scenario.reproducibility import repeatability
from fedlab.scenario.scenario import Scenario

MOST_ROWS = 500
"""Of a table; the run's own files have them all."""

LONG = 12
"""Rows from which on a table is folded."""

CLIENTS = {"defenses": "defense", "update_norm": "update norm"}
"""What the page calls columns of the clients' table; the others keep their names."""

LEAKAGE = {
    "round": "round",
    "client": "client",
    "defenses": "defense",
    "attack": "attack",
    "image": "image",
    "psnr": "PSNR dB",
    "chance_psnr": "chance dB",
    "ssim": "SSIM",
    "identification": "identified",
    "label_correct": "label right",
    "threat": "server",
    "setting": "setting",
    "verdict": "verdict",
}
"""Columns of the leakage table, and what the page calls them."""


def page_of_run(run: RunFolder) -> Content:
    """Everything that a run's page says.

    Raises:
        BadInput: If no round has ended yet.
    """
    scenario, rounds = run.scenario, run.rounds()
    if not rounds or rounds[-1].round == 0:
        raise BadInput(
            f"{run.path} holds no finished round, so there is nothing to report: go on with "
            f"`fedlab resume {shlex.quote(str(run.path))}`"
        )
    ledger, leakage = run.ledger(), run.table("leakage")
    done = rounds[-1].round
    return Content(
        kind="Run",
        name=scenario.name,
        facts=[
            f"{done} of {scenario.rounds} rounds",
            f"{scenario.data.clients} clients",
            source_of(scenario),
            scenario.model.name,
            scenario.server.strategy,
            f"seed {scenario.seed}",
        ],
        question=question(scenario),
        verdicts=[
            *leak_verdicts(leakage),
            poison_verdict(scenario, rounds),
            privacy_verdict(ledger),
        ],
        threat_model=threat_model(scenario),
        schedule=schedule_table(scenario),
        figures=shown(_figures(run, ledger, leakage)),
        tables=_tables(run, ledger, leakage),
        ledger=_accounts(run, ledger),
        environment=environment_table(run.path, [scenario]),
        scenario=toml_of(scenario),
        commands=commands(run.path, scenario),
        meaning=meaning(scenario),
    )


def _figures(run: RunFolder, ledger: Ledger, leakage: pd.DataFrame) -> list[Planned]:
    return [
        Planned(
            "figure-timeline",
            "Round by round: what was on, how well the model did, what it cost and what was seen.",
            lambda: timeline_figure(run),
        ),
        Planned(
            "figure-images",
            "True images above what the server rebuilt of them, for each attacked round. Below "
            "each: PSNR and verdict, then SSIM and the PSNR of chance.",
            lambda: run_figure(run),
        ),
        Planned(
            "figure-chance",
            "PSNR of every rebuilt image against the best guess that sees no update, by defense.",
            lambda: chance_figure(leakage, by="defenses"),
        ),
        Planned(
            "figure-ledger",
            "ε of the rounds under a mechanism, by client. A cross marks the round from which on "
            "a client's total is infinite.",
            lambda: _with_protection(ledger).plot(),
        ),
    ]


def _with_protection(ledger: Ledger) -> Ledger:
    spent = (ledger.protected(c, a) for c in ledger.histories for a in ledger.accounts)
    if all(epsilon is None for epsilon in spent):
        raise NothingToDraw("no round was under a mechanism that has an epsilon")
    return ledger


def _tables(run: RunFolder, ledger: Ledger, leakage: pd.DataFrame) -> list[Folded]:
    rounds = rounds_table(run, ledger)
    clients = run.table("clients")
    found = [
        Folded(
            f"Round by round ({rounds.row_count} rows)",
            rich_table(rounds, caption="Round by round"),
            open=rounds.row_count <= LONG,
        ),
        Folded(
            f"What each client did ({len(clients)} rows)",
            frame_table(
                clients.dropna(axis="columns", how="all").rename(columns=CLIENTS),
                caption="What each client did",
                note="From clients.csv. Update norm: L2 norm of the change that it asks for.",
                most=MOST_ROWS,
                names=2,
            ),
            open=len(clients) <= LONG,
        ),
    ]
    if not leakage.empty:
        found.append(leakage_table(leakage))
    if toggles := _toggles(run.path / "toggles.jsonl"):
        frame = pd.DataFrame(toggles)
        found.append(
            Folded(
                f"Switched while it ran ({len(frame)})",
                frame_table(frame.astype(str), caption="Switched while it ran"),
                open=len(frame) <= LONG,
            )
        )
    return found


def leakage_table(leakage: pd.DataFrame, *, first: tuple[str, ...] = ()) -> Folded:
    """What was rebuilt, image by image.

    Args:
        leakage: Of a run or of a comparison.
        first: More columns at the left.
    """
    rows = scored_images(leakage)
    frame = rows[[*first, *LEAKAGE]].rename(columns=LEAKAGE)
    return Folded(
        f"What was rebuilt, image by image ({len(frame)} rows)",
        frame_table(
            frame,
            caption="What was rebuilt, image by image",
            note="From leakage.csv, which has more columns. Identified: the share of the client's "
            "images of the class that are further from the rebuilt image than the true one.",
            most=MOST_ROWS,
            names=len(first) + 2,
        ),
        open=len(frame) <= LONG,
    )


def _accounts(run: RunFolder, ledger: Ledger) -> list[Folded]:
    by_client, by_round = clients_table(run.scenario, ledger), ledger_table(ledger)
    return [
        Folded("Client by client", rich_table(by_client), open=True),
        Folded(
            f"Round by round ({by_round.row_count} rows)",
            rich_table(by_round),
            open=by_round.row_count <= LONG,
        ),
    ]


def commands(folder: Path, scenario: Scenario) -> list[Command]:
    """How to do a run again; only the folder's name is told, not where it is."""
    name = shlex.quote(folder.resolve().name)
    return [
        Command(
            f"Run it again, from the scenario above, saved as scenario.toml.{put_beside(scenario)} "
            f"{repeatability([scenario])}",
            "fedlab run scenario.toml --out again",
        ),
        Command("Look at the accounts.", f"fedlab ledger {name}"),
        Command("Write this page.", f"fedlab report {name}"),
    ]


def _toggles(file: Path) -> list[dict[str, object]]:
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line]
