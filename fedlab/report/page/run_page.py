"""The page of a run."""

import json
import shlex
from pathlib import Path

import pandas as pd

from fedlab.core.errors import BadInput
from fedlab.privacy.ledger import Ledger
from fedlab.report.figures.chance import chance_figure
from fedlab.report.figures.leaks import run_figure
from fedlab.report.figures.ledger import ledger_figure
from fedlab.report.figures.sheet import NothingToDraw, Picture
from fedlab.report.figures.timeline import timeline_figure
from fedlab.report.page.embedded_figures import PlannedFigure, embed
from fedlab.report.page.environment import environment_table
from fedlab.report.page.interpretation import interpretation
from fedlab.report.page.local_paths import files_needed, portable_toml, source_of
from fedlab.report.page.page_content import Command, FoldedTable, folded
from fedlab.report.page.research_question import research_question
from fedlab.report.page.threat_model import threat_model
from fedlab.report.tables.ledger import clients_table, ledger_table
from fedlab.report.tables.rounds import rounds_table
from fedlab.report.tables.schedule import schedule_grid
from fedlab.report.tables.table import frame_table
from fedlab.report.verdicts.run import leak_verdicts, poison_verdict, privacy_verdict
from fedlab.results.attacks import scored_images
from fedlab.results.folder import RunFolder
from fedlab.scenario.reproducibility import repeatability

MOST_ROWS = 500
"""Largest number of rows of a table on a page; the CSV files of the run have all rows."""

CLIENTS = {"defenses": "defense", "update_norm": "update norm"}
"""Headers of the columns of ``clients.csv`` that the page renames."""

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
    "label_correct": "label correct",
    "threat": "server",
    "setting": "setting",
    "verdict": "verdict",
}
"""Columns of ``leakage.csv`` on the page, with their headers."""


def run_page(run: RunFolder) -> dict[str, object]:
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
    name = shlex.quote(run.path.resolve().name)
    return {
        "kind": "Run",
        "name": scenario.name,
        "facts": [
            f"{rounds[-1].round} of {scenario.rounds} rounds",
            f"{scenario.data.clients} clients",
            source_of(scenario),
            scenario.model.name,
            scenario.server.strategy,
            f"seed {scenario.seed}",
        ],
        "question": research_question(scenario),
        "verdicts": [
            *leak_verdicts(leakage),
            poison_verdict(scenario, rounds),
            privacy_verdict(ledger),
        ],
        "threat_model": threat_model(scenario),
        "schedule": schedule_grid(scenario),
        "figures": embed(_figures(run, ledger, leakage)),
        "tables": _tables(run, ledger, leakage),
        "ledger": [
            folded("Client by client", clients_table(ledger, scenario), open=True),
            folded("Round by round", ledger_table(ledger)),
        ],
        "environment": environment_table(run.path, [scenario]),
        "scenario": portable_toml(scenario),
        "commands": [
            Command(
                "Run it again from the scenario above, saved as scenario.toml. "
                f"{files_needed(scenario)} {repeatability([scenario])}",
                "fedlab run scenario.toml --out again",
            ),
            Command("Print the privacy ledger.", f"fedlab ledger {name}"),
            Command("Write this page.", f"fedlab report {name}"),
        ],
        "interpretation": interpretation(scenario),
    }


def leakage_table(leakage: pd.DataFrame, *, arm: tuple[str, ...] = ()) -> FoldedTable:
    """Scores of every reconstructed image.

    Args:
        leakage: The leakage table of a run or of a comparison.
        arm: Columns in front that identify a run of a comparison.
    """
    return folded(
        "Reconstructions, image by image",
        frame_table(
            scored_images(leakage)[[*arm, *LEAKAGE]].rename(columns=LEAKAGE),
            title="Reconstructions, image by image",
            note="From leakage.csv, which has more columns. Identified: share of the client's "
            "images of the class that are further from the reconstruction than the true image is.",
            most=MOST_ROWS,
            names=len(arm) + 2,
        ),
    )


def _figures(run: RunFolder, ledger: Ledger, leakage: pd.DataFrame) -> list[PlannedFigure]:
    return [
        (
            "figure-timeline",
            "Round by round: defenses, accuracy, privacy spent and reconstruction quality.",
            lambda: timeline_figure(run),
        ),
        (
            "figure-images",
            "True images above their reconstructions, for each attacked round. Below each: PSNR "
            "and verdict, then SSIM and the PSNR of chance.",
            lambda: run_figure(run),
        ),
        (
            "figure-chance",
            "PSNR of every reconstruction and of the best guess without any update, by defense.",
            lambda: chance_figure(leakage, by="defenses"),
        ),
        (
            "figure-ledger",
            "ε of the rounds under a mechanism, by client. A cross marks the round from which on "
            "a client's total is infinite.",
            lambda: _ledger(ledger),
        ),
    ]


def _ledger(ledger: Ledger) -> Picture:
    if not any(map(ledger.protects, ledger.accounts)):
        raise NothingToDraw("no round was under a mechanism that has an epsilon")
    return ledger_figure(ledger)


def _tables(run: RunFolder, ledger: Ledger, leakage: pd.DataFrame) -> list[FoldedTable]:
    clients = run.table("clients").dropna(axis="columns", how="all").rename(columns=CLIENTS)
    found = [
        folded("Round by round", rounds_table(run, ledger)),
        folded(
            "Clients, round by round",
            frame_table(
                clients,
                title="Clients, round by round",
                note="From clients.csv. Update norm: L2 norm of the client's change of the model.",
                most=MOST_ROWS,
                names=2,
            ),
        ),
    ]
    if not leakage.empty:
        found.append(leakage_table(leakage))
    if (toggles := _toggles(run.path / "toggles.jsonl")) is not None:
        found.append(folded("Toggles during the run", frame_table(toggles.astype(str))))
    return found


def _toggles(file: Path) -> pd.DataFrame | None:
    if not file.is_file():
        return None
    lines = file.read_text(encoding="utf-8").splitlines()
    return pd.DataFrame([json.loads(line) for line in lines if line])
