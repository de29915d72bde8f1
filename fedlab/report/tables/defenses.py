"""A comparison as a table with one row per defense: what it stops, and what it costs."""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from fedlab.comparison.comparison import Comparison
from fedlab.comparison.summary import summary_of
from fedlab.metrics.verdict import MARGIN
from fedlab.report.tables.numbers import counted, number, plain
from fedlab.report.tables.table import Column, ReportTable

DefenseLine = Any
"""A row of ``summary_of`` as a named tuple."""

_LONG = 22
"""Letters of a label that fit on one line."""


def defense_lines(frame: pd.DataFrame) -> list[DefenseLine]:
    """Rows of ``summary_of`` with a field for each column.

    Args:
        frame: The frame of a comparison, with at least one row.
    """
    return list(summary_of(frame).fillna({"unit": ""}).itertuples(index=False))


def defenses_table(frame: pd.DataFrame, *, title: str) -> ReportTable:
    """One row per defense and aggregation rule, without columns in which nothing was measured.

    Args:
        frame: The frame of a comparison, with at least one row.
        title: The question that the table answers.
    """
    lines = defense_lines(frame)
    rules = len({line.rule for line in lines}) > 1
    swept = len({line.grid for line in lines}) > 1
    attacked = any(line.images for line in lines)
    poisoned = not all(math.isnan(line.attack_success_rate) for line in lines)
    paired = any(line.clusters > 1 and math.isfinite(line.fewer_leaks) for line in lines)
    powered = any(math.isfinite(line.power) for line in lines)
    seeds = len({line.seeds for line in lines}) > 1
    timed = any(math.isfinite(line.cpu_seconds) for line in lines)
    columns: list[tuple[Column, Callable[[DefenseLine], str], bool]] = [
        (Column("defense"), lambda line: _folded(line.defense), True),
        (Column("rule"), lambda line: _folded(line.rule), rules),
        (Column("setting"), lambda line: _folded(line.grid.replace(" ", "\n")), swept),
        (Column("seeds", "right"), lambda line: str(line.seeds), seeds),
        (Column("accuracy", "right"), lambda line: spread(line, "accuracy", ".3f"), True),
        (Column("attack\nsuccess", "right"), _success, poisoned),
        (Column("images\nleaking", "right"), _leaking, attacked),
        (Column("fewer leaks\nthan open", "right", terminal=False), _fewer, paired),
        (Column("power", "right"), lambda line: plain(float(line.power)), powered),
        (Column("PSNR\n(chance)", "right", terminal=False), _beside_chance, attacked),
        (Column("above\nchance", "right"), lambda line: spread(line, "above_chance", "+.1f"),
         attacked),
        (Column("ε\nhonest", "right"), epsilon_text, True),
        (Column("ε\nattacked", "right"), lambda line: epsilon_text(line, "attacked_"), attacked),
        (Column("time\ns", "right"), lambda line: f"{line.seconds:.0f}", True),
        (Column("CPU\ns", "right"), lambda line: plain(line.cpu_seconds, digits=0), timed),
    ]  # fmt: skip
    shown = [(column, cell) for column, cell, wanted in columns if wanted]
    return ReportTable(
        title,
        [column for column, _ in shown],
        [[cell(line) for _, cell in shown] for line in lines],
        _note(lines, poisoned=poisoned),
        names=1 + rules + swept,
    )


def comparison_table(comparison: Comparison) -> ReportTable:
    """The table of a comparison, with the question that it answers as its title."""
    rules_only = len(comparison.defenses) == 1 and len(comparison.rules) > 1
    question = "what does each rule stop?" if rules_only else "what does each defense buy?"
    return defenses_table(comparison.frame, title=f"{comparison.name}: {question}")


def spread(line: DefenseLine, measure: str, form: str) -> str:
    """Median over seeds with the smallest and the largest value below, if they differ.

    Args:
        line: A row of ``defense_lines``.
        measure: Name of a measure, such as ``accuracy``.
        form: Format of each number, such as ``.3f``.
    """
    values = [getattr(line, measure + end) for end in ("", "_min", "_max")]
    if math.isnan(values[0]):
        return "-"
    median, low, high = (format(value, form) for value in values)
    return median if low == high else f"{median}\n{low} … {high}"


def epsilon(line: DefenseLine, whose: str = "") -> float:
    """Epsilon of all rounds, or of the protected ones where only those have a bound.

    Args:
        line: A row of ``defense_lines``.
        whose: Empty for honest clients, ``attacked_`` for attacked ones.
    """
    protected = float(getattr(line, f"{whose}epsilon_protected"))
    total = float(getattr(line, f"{whose}epsilon_total"))
    return total if math.isfinite(total) or math.isnan(protected) else protected


def epsilon_text(line: DefenseLine, whose: str = "") -> str:
    """The same as a cell, which names protected rounds and the protection of whole clients."""
    value = epsilon(line, whose)
    if math.isnan(value):
        return "-"
    partly = "\nprot. rounds" * int(value != getattr(line, f"{whose}epsilon_total"))
    client = "\nof a client" if line.unit == "client" else ""
    return f"{number(value)}{partly}{client}"


def _folded(name: str) -> str:
    """A long label with its settings on lines of their own."""
    return re.sub(r"(?<=[:+])", "\n", name) if len(name) > _LONG else name


def _leaking(line: DefenseLine) -> str:
    if not line.images:
        return "-"
    low, high = 100 * line.leaking_low, 100 * line.leaking_high
    parts = [f"{line.leaking} of {line.images}"]
    parts += [f"{low:.0f} … {high:.0f} %"] * (line.clusters > 1)
    for name in ("recognisable", "inconclusive"):
        parts += [f"{getattr(line, name)} {name}"] * bool(getattr(line, name))
    return "\n".join([*parts, *[f"{line.skipped} not attacked"] * bool(line.skipped)])


def _fewer(line: DefenseLine) -> str:
    if math.isnan(line.fewer_leaks) or line.clusters < 2:
        return "-"
    low, high = 100 * line.fewer_leaks_low, 100 * line.fewer_leaks_high
    return f"{100 * line.fewer_leaks:+.0f} %\n{low:+z.0f} … {high:+z.0f} %"


def _success(line: DefenseLine) -> str:
    chance = line.chance_success_rate
    rate = spread(line, "attack_success_rate", ".2f")
    return rate if math.isnan(chance) else f"{rate}\nchance {chance:.2f}"


def _beside_chance(line: DefenseLine) -> str:
    psnr, chance = (plain(each, digits=1) for each in (line.psnr, line.chance_psnr))
    return f"{psnr} ({chance})" if line.images else "-"


def _note(lines: Sequence[DefenseLine], *, poisoned: bool) -> str:
    counts = {line.seeds for line in lines}
    seeds = counted(counts.pop(), "seed") if len(counts) == 1 else "the seeds"
    deltas = sorted({line.delta for line in lines if not math.isnan(line.delta)})
    at = f" at δ = {', '.join(f'{delta:g}' for delta in deltas)}" if deltas else ""
    success = " and attack success with its chance (the same rate on clean images)" * poisoned
    return (
        f"Medians over {seeds}, with the smallest and the largest value below. Accuracy{success}: "
        "after the last round. PSNR, chance and PSNR above chance: in dB, over all attacked "
        f"rounds, of the attack that leaks most. An image leaks if it is at least {MARGIN:g} dB "
        "above chance and identified; below, the 95 % interval of the share over clients "
        "and seeds, whose images are not independent; one client has none. "
        f"ε{at}: largest over clients, for one example unless the cell names a client. "
        "Time: all rounds with their attacks, while other runs may share the machine; CPU time of "
        "all processes of the run."
    )
