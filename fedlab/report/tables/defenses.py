"""A comparison with a line for each defense: what it hides and stops, and what it costs."""

import math
import re
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table

from fedlab.comparison.comparison import Comparison
from fedlab.comparison.summary import EPSILONS, summary_of
from fedlab.report.tables.numbers import number, plain


@dataclass(frozen=True)
class Spread:
    """A number over the seeds of a comparison.

    Attributes:
        median: NaN where there is none.
        low: The smallest.
        high: The largest.
    """

    median: float
    low: float
    high: float

    def text(self, form: str) -> str:
        """The median, and the range where it is one, in a format such as ``.3f``."""
        if math.isnan(self.median):
            return "-"
        told, low, high = (format(each, form) for each in (self.median, self.low, self.high))
        return told if low == high else f"{told}\n{low} … {high}"


@dataclass(frozen=True)
class Epsilon:
    """The largest of some clients.

    Attributes:
        protected: Of protected rounds; NaN where there is none.
        total: Of all rounds; NaN where nobody sent anything.
        unit: What it hides: one ``example``, or one ``client``.
    """

    protected: float
    total: float
    unit: str

    @property
    def told(self) -> float:
        """That of all rounds, or of protected ones where only those have a bound."""
        bounded = math.isfinite(self.total) or math.isnan(self.protected)
        return self.total if bounded else self.protected

    @property
    def text(self) -> str:
        """For a cell, with what is not usual about it."""
        if math.isnan(self.told):
            return "-"
        partly = "\nprot. rounds" if self.told != self.total else ""
        return number(self.told) + partly + ("\nof a client" if self.unit == "client" else "")


@dataclass(frozen=True)
class DefenseLine:
    """What a comparison found of one defense under one aggregation rule.

    Attributes:
        defense: Its label.
        rule: Of the server.
        seeds: Runs that finished.
        attack: That rebuilds most; all about images is of this one.
        accuracy: After the last round.
        attack_success: After the last round; NaN where nobody poisons.
        chance_success: How often clean images get the wanted label; NaN where that is not known.
        success_above_chance: What it reaches of what chance leaves open, see
            ``fedlab.metrics.verdict``.
        leaking: Images that leak.
        images: That were attacked.
        psnr: Of the attacked clients of each round, in dB.
        chance: Of the same, in dB.
        above_chance: Of the same, in dB.
        epsilon: Of clients that are honest throughout, or of all where nobody is.
        attacked: Of those that were attacked.
        delta: Of both; NaN where neither has one.
        seconds: Of all rounds, attacks included.
    """

    defense: str
    rule: str
    seeds: int
    attack: str
    accuracy: Spread
    attack_success: Spread
    chance_success: Spread
    success_above_chance: Spread
    leaking: int
    images: int
    psnr: Spread
    chance: Spread
    above_chance: Spread
    epsilon: Epsilon
    attacked: Epsilon
    delta: float
    seconds: Spread


_LONG = 22
"""Letters of a label that one line has room for."""


def note_of(lines: Sequence[DefenseLine]) -> str:
    """What the columns mean."""
    counts = {line.seeds for line in lines}
    seeds = f"{(n := counts.pop())} seed{'s' * (n > 1)}" if len(counts) == 1 else "the seeds"
    deltas = sorted({line.delta for line in lines if not math.isnan(line.delta)})
    at = f" at δ = {', '.join(f'{delta:g}' for delta in deltas)}" if deltas else ""
    success = (
        ", attack success with its chance (how often clean images get the wanted label)"
        if _poisoned(lines)
        else ""
    )
    return (
        f"Medians and, below, the smallest and the largest over {seeds}; accuracy{success} after "
        "the last round; PSNR, chance and what is above it in dB, over all attacked rounds, of the "
        "attack that rebuilds most; an image leaks if it is at least 3 dB above chance and "
        f"identified; ε{at}: the largest of the clients, hiding one example of theirs unless said; "
        "time of all rounds, attacks included, beside other runs."
    )


def defense_lines(frame: pd.DataFrame) -> list[DefenseLine]:
    """A line for each defense and rule, in the order of the frame.

    Args:
        frame: ``Comparison.frame``.
    """
    rows = summary_of(frame)
    spreads = {
        name: [
            Spread(*values)
            for values in rows[[measure, f"{measure}_min", f"{measure}_max"]].itertuples(
                index=False
            )
        ]
        for name, measure in (
            ("accuracy", "accuracy"),
            ("attack_success", "attack_success_rate"),
            ("chance_success", "chance_success_rate"),
            ("success_above_chance", "success_above_chance"),
            ("psnr", "psnr"),
            ("chance", "chance_psnr"),
            ("above_chance", "above_chance"),
            ("seconds", "seconds"),
        )
    }
    return [
        DefenseLine(
            defense=row["defense"],
            rule=row["rule"],
            seeds=row["seeds"],
            attack=row["attack"],
            leaking=row["leaking"],
            images=row["images"],
            epsilon=_epsilon(row, ""),
            attacked=_epsilon(row, "attacked_"),
            delta=row["delta"],
            **{name: values[place] for name, values in spreads.items()},
        )
        for place, row in enumerate(rows.to_dict("records"))
    ]


@dataclass(frozen=True)
class Columns:
    """The lines as texts.

    Attributes:
        header: Names of the columns.
        rows: A text for each column.
        names: How many columns in front hold names and not numbers.
    """

    header: list[str]
    rows: list[list[str]]
    names: int


def columns_of(lines: Sequence[DefenseLine], *, besides: Collection[str] = ()) -> Columns:
    """The lines as texts, without the columns in which nobody measured anything.

    Args:
        lines: At least one.
        besides: Columns to leave out as well.
    """
    several = len({line.rule for line in lines}) > 1
    attacked = any(line.images for line in lines)
    columns: list[tuple[str, Callable[[DefenseLine], str], bool]] = [
        ("defense", lambda line: _folded(line.defense), True),
        ("rule", lambda line: _folded(line.rule), several),
        ("seeds", lambda line: str(line.seeds), len({line.seeds for line in lines}) > 1),
        ("accuracy", lambda line: line.accuracy.text(".3f"), True),
        ("attack\nsuccess", _success, _poisoned(lines)),
        ("images\nleaking", _leaking, attacked),
        ("PSNR\n(chance)", _beside_chance, attacked),
        ("above\nchance", lambda line: line.above_chance.text("+.1f"), attacked),
        ("ε\nhonest", lambda line: line.epsilon.text, True),
        ("ε\nattacked", lambda line: line.attacked.text, attacked),
        ("time\ns", lambda line: f"{line.seconds.median:.0f}", True),
    ]
    shown = [(name, cell) for name, cell, wanted in columns if wanted and name not in besides]
    return Columns(
        [name for name, _ in shown],
        [[cell(line) for _, cell in shown] for line in lines],
        names=1 + several,
    )


def defenses_table(frame: pd.DataFrame, *, title: str) -> Table:
    """The lines as a table of a terminal, which has no room for what others follow from.

    Args:
        frame: ``Comparison.frame``.
        title: The question that it answers.
    """
    lines = defense_lines(frame)
    columns = columns_of(lines, besides=["PSNR\n(chance)"])
    table = Table(
        title=title,
        caption=note_of(lines),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for place, name in enumerate(columns.header):
        if place < columns.names:
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name, justify="right", no_wrap=True)
    for row in columns.rows:
        table.add_row(*row)
    return table


def _folded(name: str) -> str:
    """A long label with its settings on lines of their own."""
    return re.sub(r"(?<=[:+])", "\n", name) if len(name) > _LONG else name


def _leaking(line: DefenseLine) -> str:
    return f"{line.leaking} of {line.images}" if line.images else "-"


def _poisoned(lines: Sequence[DefenseLine]) -> bool:
    return any(not math.isnan(line.attack_success.median) for line in lines)


def _success(line: DefenseLine) -> str:
    chance = line.chance_success.median
    told = line.attack_success.text(".2f")
    return told if math.isnan(chance) else f"{told}\nchance {chance:.2f}"


def _beside_chance(line: DefenseLine) -> str:
    psnr, chance = (plain(each.median, digits=1) for each in (line.psnr, line.chance))
    return f"{psnr} ({chance})" if line.images else "-"


def _epsilon(row: Mapping[Hashable, Any], whose: str) -> Epsilon:
    protected, total = (row[f"{whose}{name}"] for name in EPSILONS)
    return Epsilon(protected, total, row["unit"] if isinstance(row["unit"], str) else "")


def comparison_table(comparison: Comparison) -> Table:
    """Summary table of a comparison, with the question that it answers as its title."""
    rules_only = len(comparison.defenses) == 1 and len(comparison.rules) > 1
    asked = "what does each rule stop?" if rules_only else "what does each defense buy?"
    return defenses_table(comparison.frame, title=f"{comparison.name}: {asked}")
