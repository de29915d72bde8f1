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
from fedlab.core.errors import BadInput
from fedlab.core.files import write_atomically
from fedlab.report.figures.chance import chance_figure
from fedlab.report.figures.frontier import frontier_figure
from fedlab.report.figures.image_grid import wall_figure
from fedlab.report.figures.poisoning_matrix import poisoning_matrix_figure
from fedlab.report.html.tables import rich_table
from fedlab.report.tables.defenses import defenses_table
from fedlab.report.tables.summary import summary_of
from fedlab.results.folder import RunFolder
from fedlab.scenario.scenario import Scenario

FACTS = "comparison.json"
"""The file that makes a folder that of a comparison."""
RUNS = "runs"
"""The folder with a folder for each run."""
TABLE, SUMMARY = "comparison.csv", "summary.csv"
"""The files with ``Comparison.frame`` and ``Comparison.summary``."""


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
        presets: Attacks that took the place of the scenario's own; empty where those were kept.
    """

    scenario: Scenario
    folder: Path
    runs: tuple[ComparedRun, ...]
    failures: Mapping[str, str]
    presets: tuple[str, ...] = ()

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
            return cls(
                Scenario.parse(facts["scenario"]),
                folder,
                runs,
                facts["failures"],
                tuple(facts["presets"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"{folder / FACTS} cannot be read: {error}") from error

    def save(self) -> None:
        """Write down which runs belong together, and the tables of them."""
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
            "presets": list(self.presets),
        }
        write_atomically(self.folder / FACTS, json.dumps(facts, indent=1).encode())
        for name, table in ((TABLE, self.frame), (SUMMARY, self.summary)):
            write_atomically(self.folder / name, table.to_csv(index=False).encode())

    @property
    def name(self) -> str:
        """Of the scenario."""
        return self.scenario.name

    @property
    def others(self) -> int:
        """Runs in the folder that are of other calls, and in none of the tables."""
        ours = {run.folder.path.name for run in self.runs}
        rest = {path.name for path in (self.folder / RUNS).iterdir() if path.is_dir()} - ours
        # A failed one left a folder, unless it could not even begin.
        failed = sum(any(name.startswith(f"{f}-") for name in rest) for f in self.failures)
        return len(rest) - failed

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
        ``update_norm``; of the round ``accuracy``, ``worst_recall``, ``attack_success_rate`` and
        ``chance_success_rate`` (NaN where nothing is wanted, or known) and ``seconds``; of the
        attack on this client how many ``images`` it aimed at, how many of them are ``leaking``, and
        medians of ``psnr``, ``ssim``, ``chance_psnr``, ``above_chance`` (all but SSIM in dB) and
        ``identification``, with ``setting`` and ``threat``; and ``epsilon_round``,
        ``epsilon_protected`` and ``epsilon_total`` of the client, infinite where it took part
        unprotected and NaN where it sent nothing, with the ``unit`` that is hidden, the
        ``adjacency`` and ``delta``.
        """
        rows = _together(self.runs, (rows_of(run.folder, self.attacks) for run in self.runs))
        return rows.assign(scenario=self.name)[list(COLUMNS)]

    @property
    def summary(self) -> pd.DataFrame:
        """One row for each defense and rule; see ``fedlab.report.tables.summary``."""
        return summary_of(self.frame)

    def table(self) -> Table:
        """The summary, for a terminal or a notebook."""
        rules_only = len(self.defenses) == 1 and len(self.rules) > 1
        asked = "what does each rule stop?" if rules_only else "what does each defense buy?"
        return defenses_table(self.frame, title=f"{self.name}: {asked}")

    def plot(self) -> Figure:
        """The frontier of accuracy against leakage.

        Raises:
            ValueError: If nothing was rebuilt in any run.
        """
        return frontier_figure(self.frame)

    def chance(self) -> Figure:
        """What was rebuilt beside what guessing reaches, by defense.

        Raises:
            ValueError: If nobody was attacked.
        """
        return chance_figure(self.leakage)

    def wall(
        self, *, client: int | None = None, image: int = 0, rounds: Sequence[int] | None = None
    ) -> Figure:
        """True and rebuilt images, rounds down and defenses across, of the first seed and rule.

        Args:
            client: Partition id; the first that was attacked unless given.
            image: Place in its batch.
            rounds: Which; six at most, evenly spread, unless given.

        Raises:
            ValueError: If nobody was attacked.
        """
        first = [run for run in self.runs if (run.rule, run.seed) == (self.rules[0], self.seeds[0])]
        runs = {run.defense: run.folder for run in first}
        return wall_figure(runs, client=client, image=image, rounds=rounds)

    def poisoning(self) -> Figure:
        """Attack success under each defense and aggregation rule.

        Raises:
            ValueError: If nobody poisons.
        """
        return poisoning_matrix_figure(self.frame)

    def report(self, path: Path | str | None = None) -> Path:
        """Write one offline HTML page about all of it.

        Args:
            path: The file; ``report.html`` in the comparison's folder unless given.

        Raises:
            BadInput: If it cannot be written.
        """
        # It needs this class, and templates that who only compares need not load.
        from fedlab.report.page import PAGE, write_page

        return write_page(self, self.folder / PAGE if path is None else Path(path))

    def _repr_html_(self) -> str:
        return str(rich_table(self.table()))

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
