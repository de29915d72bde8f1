"""A finished comparison: its runs on disk, one tidy table of them, and what people look at."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from rich.table import Table

from fedlab.comparison.frame import COLUMNS, leakage_of, rows_of
from fedlab.comparison.summary import summary_of, summary_table
from fedlab.errors import BadInput
from fedlab.files import write_atomically
from fedlab.runs.folder import RunFolder
from fedlab.scenario import Scenario

FACTS = "comparison.json"
"""The file that makes a folder that of a comparison."""


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison.

    Attributes:
        defense: Label of what defended the clients.
        rule: Label of the aggregation rule.
        seed: Root seed.
        folder: Where it is.
    """

    defense: str
    rule: str
    seed: int
    folder: RunFolder


@dataclass(frozen=True)
class Comparison:
    """What ``compare`` found, all of which is on disk.

    Attributes:
        scenario: What was compared on; each run has its own defenses, rule and seed in it.
        folder: Holds the runs and everything that is made of them.
        runs: That have a result, in the order of defenses, rules and seeds.
        failures: Why others have none, by name.
    """

    scenario: Scenario
    folder: Path
    runs: tuple[ComparedRun, ...]
    failures: Mapping[str, str]

    @classmethod
    def open(cls, folder: Path | str) -> "Comparison":
        """Go back to a comparison.

        Raises:
            BadInput: If there is none, or it is damaged.
        """
        folder = Path(folder)
        if not is_comparison(folder):
            raise BadInput(f"{folder} holds no comparison: there is no {FACTS} in it")
        try:
            facts: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            runs = tuple(
                ComparedRun(
                    run["defense"], run["rule"], run["seed"], RunFolder.open(folder / run["folder"])
                )
                for run in facts["runs"]
            )
            return cls(Scenario.parse(facts["scenario"]), folder, runs, facts["failures"])
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{folder / FACTS} cannot be read: {error}") from error

    def save(self) -> None:
        """Write down which runs belong together, and the table of them."""
        facts = {
            "scenario": self.scenario.to_toml(),
            "runs": [
                {
                    "defense": run.defense,
                    "rule": run.rule,
                    "seed": run.seed,
                    "folder": run.folder.path.relative_to(self.folder).as_posix(),
                }
                for run in self.runs
            ],
            "failures": dict(self.failures),
        }
        write_atomically(self.folder / FACTS, json.dumps(facts, indent=1).encode())
        write_atomically(self.folder / "comparison.csv", self.frame.to_csv(index=False).encode())

    @property
    def name(self) -> str:
        """Of the scenario."""
        return self.scenario.name

    @property
    def defenses(self) -> tuple[str, ...]:
        """Labels, in the order that was asked for."""
        return tuple(dict.fromkeys(run.defense for run in self.runs))

    @property
    def rules(self) -> tuple[str, ...]:
        """Likewise of the aggregation rules."""
        return tuple(dict.fromkeys(run.rule for run in self.runs))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Root seeds."""
        return tuple(dict.fromkeys(run.seed for run in self.runs))

    @property
    def attacks(self) -> tuple[str, ...]:
        """Presets that were used, each with whether it was granted the labels."""
        return tuple(sorted(set(self.leakage["attack"])))

    @cached_property
    def leakage(self) -> pd.DataFrame:
        """One row for each image that was attacked, as in a run's ``leakage.csv``."""
        return _together(self.runs, (leakage_of(run.folder) for run in self.runs))

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row for each defense, rule, seed, attack, round and client.

        Columns: ``scenario``, ``defense``, ``rule``, ``seed``, ``attack``, ``round`` from 1,
        ``client``, ``role``, ``defenses`` that it ran, ``status``, ``selected`` by the rule and
        ``update_norm``; of the round ``accuracy``, ``worst_recall``, ``attack_success_rate`` (NaN
        where nobody poisons) and ``seconds``; of the attack on this client how many ``images``
        it aimed at, how many of them are ``leaking``, and medians of ``psnr``, ``ssim``,
        ``chance_psnr``, ``above_chance`` (all but SSIM in dB) and ``identification``, with
        ``setting`` and ``threat``; and ``epsilon_round``, ``epsilon_protected`` and
        ``epsilon_total`` of the client, infinite where it took part unprotected.
        """
        rows = _together(self.runs, (rows_of(run.folder, self.attacks) for run in self.runs))
        return rows.assign(scenario=self.name)[list(COLUMNS)]

    @property
    def summary(self) -> pd.DataFrame:
        """One row for each defense and rule; see ``fedlab.comparison.summary``."""
        return summary_of(self.frame)

    def table(self) -> Table:
        """The summary, for a terminal or a notebook."""
        return summary_table(self.summary, title=f"{self.name}: what does each defense buy?")

    def plot(self) -> Figure:
        """The frontier of accuracy against leakage."""
        from fedlab.report.frontier import frontier_figure

        return frontier_figure(self.frame)

    def __repr__(self) -> str:
        return (
            f"Comparison({self.name!r}, {len(self.runs)} runs: {', '.join(self.defenses)}; "
            f"folder={str(self.folder)!r})"
        )


def is_comparison(folder: Path) -> bool:
    """Whether a folder holds a comparison."""
    return (folder / FACTS).is_file()


def _together(runs: Sequence[ComparedRun], tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The tables of all runs below each other, each with whose it is in front."""
    found = []
    for run, table in zip(runs, tables, strict=True):
        whose = pd.DataFrame(
            {"defense": run.defense, "rule": run.rule, "seed": run.seed}, index=table.index
        )
        found.append(pd.concat([whose, table], axis=1))
    return pd.concat(found, ignore_index=True)
