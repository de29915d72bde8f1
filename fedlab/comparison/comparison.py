"""A finished comparison: its runs on disk, their tidy table, and its figures."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.table import Table

from fedlab.comparison.frame import COLUMNS, further_metrics, leakage_of, rows_of
from fedlab.comparison.summary import summary_of
from fedlab.comparison.sweep import COLUMN, Point
from fedlab.core.errors import BadInput
from fedlab.core.files import write_atomically
from fedlab.core.plain_text import to_csv
from fedlab.core.plugins import looking
from fedlab.core.views import Viewable, show
from fedlab.results.folder import RunFolder
from fedlab.scenario.scenario import Scenario

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FACTS = "comparison.json"
"""File that makes a folder the folder of a comparison."""
RUNS = "runs"
"""Folder with one folder for each run."""
TABLE, SUMMARY = "comparison.csv", "summary.csv"
"""Files with ``Comparison.frame`` and ``Comparison.summary``."""


@dataclass(frozen=True)
class ComparedRun:
    """One run of a comparison.

    Attributes:
        defense: Label of the defenses.
        rule: Label of the aggregation rule.
        seed: Root seed.
        folder: Folder of the run.
        point: Values of the swept settings, by path, without those for other defenses.
    """

    defense: str
    rule: str
    seed: int
    folder: RunFolder
    point: Mapping[str, Any] = field(default_factory=dict)

    @property
    def grid(self) -> str:
        """The values of the swept settings in words; empty without a sweep."""
        return Point(self.point).label


@dataclass(frozen=True)
class Comparison(Viewable):
    """The result of ``compare``, all of which is on disk.

    Attributes:
        scenario: The scenario; each run has its own defenses, rule and seed in it.
        folder: Folder with the runs, the tables and the figures.
        runs: The runs that have a result, in the order of defenses, rules, settings and seeds.
        failures: Reasons of the runs that have no result, by name.
        presets: Attacks with their settings, in place of the scenario's own; empty if these were
            kept.
        sweep: Values of each swept setting, by its path.
    """

    scenario: Scenario
    folder: Path
    runs: tuple[ComparedRun, ...]
    failures: Mapping[str, str]
    presets: tuple[str, ...] = ()
    sweep: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path | str) -> "Comparison":
        """Open the folder of an earlier comparison.

        Args:
            folder: Path of the folder.

        Raises:
            BadInput: If the folder holds no comparison, or a damaged one.
        """
        folder = Path(folder)
        if not is_comparison(folder):
            raise BadInput(f"{folder} holds no comparison: there is no {FACTS} in it")
        try:
            facts: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            runs = tuple(
                ComparedRun(
                    run["defense"],
                    run["rule"],
                    run["seed"],
                    RunFolder.open(folder / run["folder"]),
                    run.get("point", {}),
                )
                for run in facts["runs"]
            )
            with looking("run"):
                scenario = Scenario.parse(facts["scenario"])
            return cls(
                scenario,
                folder,
                runs,
                facts["failures"],
                tuple(facts["presets"]),
                facts.get("sweep") or _swept_by(runs),
            )
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise BadInput(f"{folder / FACTS} cannot be read: {error}") from error

    def write(self) -> None:
        """Write the list of the runs, and their tables."""
        facts = {
            "scenario": self.scenario.to_toml(),
            "runs": [
                {
                    "defense": run.defense,
                    "rule": run.rule,
                    "seed": run.seed,
                    "folder": run.folder.path.relative_to(self.folder).as_posix(),
                    "point": dict(run.point),
                }
                for run in self.runs
            ],
            "failures": dict(self.failures),
            "presets": list(self.presets),
            "sweep": {path: list(values) for path, values in self.sweep.items()},
        }
        write_atomically(self.folder / FACTS, json.dumps(facts, indent=1).encode())
        for name, table in ((TABLE, self.frame), (SUMMARY, self.summary)):
            write_atomically(self.folder / name, to_csv(table))

    @property
    def name(self) -> str:
        """Name of the scenario."""
        return self.scenario.name

    @property
    def others(self) -> int:
        """Number of runs in the folder that belong to other calls, and to none of the tables."""
        ours = {run.folder.path.name for run in self.runs}
        rest = {path.name for path in (self.folder / RUNS).iterdir() if path.is_dir()} - ours
        # A failed run has a folder, unless it could not start.
        failed = sum(any(name.startswith(f"{f}-") for name in rest) for f in self.failures)
        return len(rest) - failed

    @property
    def defenses(self) -> tuple[str, ...]:
        """Labels of the defenses, in the order of the call."""
        return tuple(dict.fromkeys(run.defense for run in self.runs))

    @property
    def rules(self) -> tuple[str, ...]:
        """Labels of the aggregation rules, in the order of the call."""
        return tuple(dict.fromkeys(run.rule for run in self.runs))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Root seeds, in the order of the call."""
        return tuple(dict.fromkeys(run.seed for run in self.runs))

    @property
    def points(self) -> tuple[str, ...]:
        """Combinations of values of the swept settings in words, in the order of the call."""
        return tuple(dict.fromkeys(run.grid for run in self.runs))

    @property
    def attacks(self) -> tuple[str, ...]:
        """Labels of the attacks: the preset, and whether it was given the labels."""
        return tuple(sorted(set(self.leakage["attack"])))

    @cached_property
    def leakage(self) -> pd.DataFrame:
        """One row for each image that was attacked, as in a run's ``leakage.csv``."""
        return _together(self.runs, (leakage_of(run.folder) for run in self.runs))

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row for each defense, rule, swept setting, seed, attack, round and client.

        Columns of the client: ``scenario``, ``defense``, ``rule``, ``grid`` (the values of the
        swept settings in words), ``seed``, ``attack``, ``round`` from 1, ``client``,
        ``role``, ``defenses``, ``status``, ``selected`` and ``update_norm``.
        Columns of the round: ``accuracy``, ``worst_recall``, ``attack_success_rate`` and
        ``chance_success_rate`` (NaN without a poisoning that aims at a label), ``seconds`` and
        ``cpu_seconds``.
        Columns of the attack on the client: the number of ``images`` behind the update, how many of
        them are ``leaking``, ``recognisable``, ``inconclusive`` and ``skipped``, how many have
        guessed labels (``labels_guessed``), the medians of ``psnr``, ``ssim``, ``chance_psnr``,
        ``above_chance`` (all but SSIM in dB) and ``identification``, the lowest ``power``,
        ``setting`` and ``threat``, the share of images that are ``identified`` in their pool and
        ``ceiling_identified``, which no attack exceeds. The last columns of the table are the
        medians of the metrics that the scenario adds, and the value of each swept setting, such as
        ``grid.training.lr``, which is missing where it is one of another defense.
        Columns of the client's privacy:
        ``epsilon_round``, ``epsilon_protected`` and ``epsilon_total``, infinite once it took part
        unprotected and NaN if it sent nothing, with ``unit``, ``adjacency`` and ``delta``.
        """
        rows = _together(self.runs, (rows_of(run.folder, self.attacks) for run in self.runs))
        swept = [f"{COLUMN}{path}" for path in self.sweep]
        return rows.assign(scenario=self.name).reindex(
            columns=[*COLUMNS, *further_metrics(self.leakage), *swept]
        )

    @property
    def summary(self) -> pd.DataFrame:
        """One row for each defense, rule and swept setting; see ``fedlab.comparison.summary``."""
        return summary_of(self.frame)

    def table(self) -> Table:
        """Table of the summary, for a terminal or a notebook: one row for each arm."""
        table: Table = show(self, "table")
        return table

    def chance(self) -> "Figure":
        """Draw the PSNR of all rebuilt images beside chance, by defense.

        Raises:
            ValueError: If no client was attacked.
        """
        return self._figure("chance")

    def wall(
        self, *, client: int | None = None, image: int = 0, rounds: Sequence[int] | None = None
    ) -> "Figure":
        """Draw one true image and its reconstructions, by round and defense.

        The runs of the first seed under the first rule are used.

        Args:
            client: Partition id; default: the first client that was attacked.
            image: Position of the image in the client's batch, from 0.
            rounds: Rounds to draw, from 1; default: six attacked rounds at most, evenly spread.

        Raises:
            ValueError: If no client was attacked.
        """
        return self._figure("wall", client=client, image=image, rounds=rounds)

    def poisoning(self) -> "Figure":
        """Draw the attack success rate as a matrix of defenses and aggregation rules.

        Raises:
            ValueError: If no client poisons.
        """
        return self._figure("poisoning")

    def swept(self) -> "Figure":
        """Draw leakage, accuracy and epsilon against one swept setting, or a heat map for two.

        Raises:
            ValueError: If nothing is swept.
        """
        return self._figure("swept")

    def spending(self) -> "Figure":
        """Draw the leaking share and the PSNR above chance against epsilon, by defense.

        Raises:
            ValueError: If no attacked run has a finite epsilon.
        """
        return self._figure("spending")

    def tradeoff(self) -> "Figure":
        """Draw the smallest leaking share that each defense reaches at an accuracy or a better one.

        Settings and swept values of one defense are points of one curve.

        Raises:
            ValueError: If no client was attacked.
        """
        return self._figure("tradeoff")

    def report(self, path: Path | str | None = None, *, card: bool = False) -> Path:
        """Write one offline HTML page about the comparison.

        Args:
            path: HTML file; default: ``report.html`` in the folder of the comparison.
            card: Write one or two printed pages for somebody who must decide, by default as
                ``card.html`` with ``card.md`` beside it; ``path`` may end in ``.md``.

        Returns:
            Path of the file; ``card.html`` of the two.

        Raises:
            BadInput: If the file cannot be written.
        """
        where = None if path is None else Path(path)
        written: Path = show(self, "card", where)[0] if card else show(self, "page", where)
        return written

    def _figure(self, view: str, **options: Any) -> "Figure":
        figure: Figure = show(self, view, **options)
        return figure

    def __repr__(self) -> str:
        return (
            f"Comparison({self.name!r}, {len(self.runs)} runs: {', '.join(self.defenses)}; "
            f"folder={str(self.folder)!r})"
        )


def is_comparison(folder: Path) -> bool:
    """True if a folder holds a comparison."""
    return (folder / FACTS).is_file()


def _swept_by(runs: Sequence[ComparedRun]) -> dict[str, list[Any]]:
    """Values of the swept settings in a folder of a version that did not list them."""
    found: dict[str, list[Any]] = {}
    for run in runs:
        for path, value in run.point.items():
            if value not in found.setdefault(path, []):
                found[path].append(value)
    return found


def _together(runs: Sequence[ComparedRun], tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Stack the tables of all runs, with defense, rule, swept settings and seed first."""
    found = []
    for run, table in zip(runs, tables, strict=True):
        whose = {"defense": run.defense, "rule": run.rule, "grid": run.grid}
        values = {f"{COLUMN}{path}": value for path, value in run.point.items()}
        parts = [pd.DataFrame(whose | {"seed": run.seed}, index=table.index), table]
        # As objects, since whole numbers would become fractions where other runs have none.
        parts.append(pd.DataFrame(values, index=table.index, dtype=object))
        found.append(pd.concat(parts, axis=1))
    return pd.concat(found, ignore_index=True)
