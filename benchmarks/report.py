"""Figures with their spread, as a table to read and as JSON to keep."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from fedlab.core.files import write_atomically

THREADS = 1
"""PyTorch threads of every process that is measured."""

console = Console(width=None if sys.stdout.isatty() else 110)
"""Everything that benchmarks print goes through here."""


@dataclass(frozen=True)
class Figure:
    """Something that was measured, once or several times.

    Attributes:
        name: What it is, such as ``bare loop: 20 rounds``.
        unit: Of the values; empty for a ratio.
        values: One for each repeat.
        failure: Why there are no values.
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
    """Something that a benchmark must show.

    Attributes:
        text: The claim, with its number.
        holds: Whether it was so.
    """

    text: str
    holds: bool


@dataclass(frozen=True)
class Report:
    """What a benchmark found.

    Attributes:
        title: The question that it answers.
        settings: What was run, for people and for the JSON.
        figures: In order of the table.
        claims: What they are held against.
    """

    title: str
    settings: Mapping[str, str | int | float]
    figures: Sequence[Figure]
    claims: Sequence[Claim] = field(default_factory=tuple)

    @property
    def holds(self) -> bool:
        """Whether every claim does."""
        return all(claim.holds for claim in self.claims)

    def table(self) -> Table:
        """All figures, and below them settings and claims."""
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
        """Write the figures and what they were measured on; no names of machines or paths.

        Args:
            path: The JSON file.
            command: What gives them again.
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
    """A number with the digits that mean something."""
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.3f}" if abs(value) < 10 else f"{value:,.1f}"
