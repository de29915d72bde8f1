"""Figures with their spread, as a table and as JSON."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from fedlab.core.files import write_atomically

THREADS = 1
"""PyTorch threads of every process that is measured."""

console = Console(width=None if sys.stdout.isatty() else 110)
"""Console on which all benchmarks print."""


@dataclass(frozen=True)
class Figure:
    """A measurement, made once or several times.

    Attributes:
        name: Name of the figure, such as ``bare loop: 20 rounds``.
        unit: Unit of the values; empty for a ratio.
        values: Measured values, one for each repeat.
        failure: Reason why there are no values.
    """

    name: str
    unit: str
    values: Sequence[float] = ()
    failure: str = ""

    def facts(self) -> dict[str, Any]:
        """The figure for JSON."""
        about = {"name": self.name, "unit": self.unit, "n": len(self.values)}
        if not self.values:
            return about | {"failure": self.failure}
        return about | {
            "mean": float(f"{fmean(self.values):.5g}"),
            "median": float(f"{median(self.values):.5g}"),
            "min": float(f"{min(self.values):.5g}"),
            "max": float(f"{max(self.values):.5g}"),
        }

    def cells(self) -> list[str]:
        """The figure as a row of the table."""
        if not self.values:
            return [self.name, "failed", "", "", "0", self.failure]
        low, high = (min(self.values), max(self.values)) if len(self.values) > 1 else ("", "")
        numbers = median(self.values), low, high, len(self.values)
        return [self.name, *map(_short, numbers), self.unit]


@dataclass(frozen=True)
class Claim:
    """A claim that a benchmark checks.

    Attributes:
        text: The claim, with its number.
        holds: Whether the measurement confirms it.
    """

    text: str
    holds: bool

    @classmethod
    def at_most(cls, what: str, found: float, most: float) -> "Claim":
        """Claim that a number is at most another."""
        return cls(f"{what}: {found:.3f}, at most {most:g}", found <= most)


@dataclass(frozen=True)
class Report:
    """The results of a benchmark.

    Attributes:
        title: The question that it answers.
        settings: Settings of the benchmark, for readers and for the JSON.
        figures: Figures in the order of the table.
        claims: Claims that the figures confirm or not.
    """

    title: str
    settings: Mapping[str, str | int | float]
    figures: Sequence[Figure]
    claims: Sequence[Claim] = field(default_factory=tuple)

    @property
    def holds(self) -> bool:
        """True if every claim holds."""
        return all(claim.holds for claim in self.claims)

    def table(self) -> Table:
        """A table of all figures, with settings and claims below."""
        said = ", ".join(f"{name}: {_short(value)}" for name, value in self.settings.items())
        claims = [f"{'holds' if c.holds else 'FAILS'}: {c.text}" for c in self.claims]
        table = Table(
            title=self.title,
            caption="\n".join([said, *claims]),
            caption_justify="left",
            box=box.SIMPLE_HEAD,
        )
        table.add_column("figure")
        for header in ("median", "min", "max", "n"):
            table.add_column(header, justify="right")
        table.add_column("unit")
        for figure in self.figures:
            table.add_row(*figure.cells())
        return table

    def save(self, path: Path, *, command: str) -> None:
        """Write the figures and the hardware to JSON, without names of machines or paths.

        Args:
            path: The JSON file.
            command: Command that measures them again.
        """
        # Only now: it imports PyTorch, which whoever lists the benchmarks need not wait for.
        from fedlab.core.environment import environment

        context = environment()
        facts = {
            "title": self.title,
            "command": command,
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "hardware": {
                "cpu": context["processor"],
                "cores": context["cores"],
                "memory_gib": context["memory_gib"],
                "gpu": context["gpu"],
            },
            "versions": {"python": context["python"], **context["packages"]},
            "threads": THREADS,
            "settings": dict(self.settings),
            "figures": [figure.facts() for figure in self.figures],
            "claims": [{"claim": claim.text, "holds": claim.holds} for claim in self.claims],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(facts, indent=1) + "\n").encode())


def _short(value: str | float) -> str:
    """A number with its significant digits."""
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.3f}" if abs(value) < 10 else f"{value:,.1f}"
