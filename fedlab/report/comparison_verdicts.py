"""What a comparison shows: which defense stops what, and at which cost, in a sentence a threat."""

import math
from collections.abc import Sequence

import pandas as pd

from fedlab.report.defenses_table import DefenseLine, defense_lines
from fedlab.report.numbers import decibels, listed, number
from fedlab.report.verdicts import (
    NOT_SHOWN,
    SUCCEEDS,
    Verdict,
    circumstances,
    leaking_images,
    scored_images,
    strongest_attack,
)

OPEN = "none"


def comparison_verdicts(frame: pd.DataFrame, leakage: pd.DataFrame) -> list[Verdict]:
    """Leak, poison and privacy, in this order.

    Args:
        frame: ``Comparison.frame``.
        leakage: ``Comparison.leakage``.
    """
    lines = defense_lines(frame)
    return [*_leaks(lines, leakage), _poison(lines), _privacy(lines)]


def _leaks(lines: Sequence[DefenseLine], leakage: pd.DataFrame) -> list[Verdict]:
    scored = scored_images(leakage)
    if scored.empty:
        return [Verdict("Leak", NOT_SHOWN, "The server attacked nobody in any of the runs.")]
    return [_leak(str(threat), rows, lines) for threat, rows in scored.groupby("threat")]


def _leak(threat: str, rows: pd.DataFrame, lines: Sequence[DefenseLine]) -> Verdict:
    shown, hidden, attacks, chances = [], [], [], []
    for label, each in rows.groupby("defense", sort=False):
        defense, (leaking, images) = str(label), leaking_images(each)
        strongest = strongest_attack(each)
        attacks.append(strongest.name)
        chances.append(strongest.chance)
        told = f"{leaking} of {images} images, {decibels(strongest.psnr)}"
        if leaking:
            shown.append(f"{_called(defense)} ({told})")
        else:
            hidden.append(f"{_called(defense)} ({told}{_cost(lines, defense)})")
    clauses = [f"Images leak {listed(shown)}"] if shown else []
    if hidden:
        clauses.append(f"{'no' if shown else 'No'} leak is shown {listed(hidden)}")
    low, high = decibels(min(chances)), decibels(max(chances))
    clauses.append(
        f"chance is {low if low == high else f'{low} to {high}'}, PSNR the median of the strongest "
        f"attack on each ({listed(list(dict.fromkeys(attacks)), 'or')}), the setting "
        f"{circumstances(rows)}"
    )
    return Verdict(
        "Leak, malicious server" if threat == "malicious" else "Leak",
        "leaks" if shown else NOT_SHOWN,
        f"{'; '.join(clauses)}; {_seeds(lines)}.",
    )


def _poison(lines: Sequence[DefenseLine]) -> Verdict:
    measured = [line for line in lines if not math.isnan(line.attack_success.median)]
    if not measured:
        return Verdict(
            "Poison",
            NOT_SHOWN,
            "No run has an attack success rate: nobody poisons, or the poisoning aims at no class "
            "and shows in the accuracy alone.",
        )

    works = [
        f"{_arm(line, lines)} ({line.attack_success.median:.2f}, at an accuracy of "
        f"{line.accuracy.median:.3f})"
        for line in measured
        if line.attack_success.median >= SUCCEEDS
    ]
    stopped = [
        f"{_arm(line, lines)} ({line.attack_success.median:.2f}{_cost(lines, line.defense)})"
        for line in measured
        if line.attack_success.median < SUCCEEDS
    ]
    clauses = []
    if works:
        clauses.append(f"The poisoning succeeds {listed(works)}")
    if stopped:
        clauses.append(f"{'no' if works else 'No'} success is shown {listed(stopped)}")
    return Verdict(
        "Poison",
        "succeeds" if works else NOT_SHOWN,
        "; ".join(clauses)
        + f"; in brackets the median attack success rate after the last round, {_seeds(lines)}.",
    )


def _privacy(lines: Sequence[DefenseLine]) -> Verdict:
    spent = {line.defense: line for line in lines if line.epsilon is not None}
    if not spent:
        return Verdict(
            "Privacy spent",
            "ε ∞",
            "No defense of this comparison has an ε, so the total of everybody is infinite.",
        )
    told = [
        f"{name} ε {number(line.epsilon)} in protected rounds and {number(line.total)} in all"
        for name, line in spent.items()
    ]
    without = [line.defense for line in lines if line.defense not in spent]
    rest = f"; {listed(list(dict.fromkeys(without)))} bound nothing" if without else ""
    return Verdict(
        "Privacy spent",
        _range([line.total for line in lines if line.total is not None]),
        f"At most, over honest clients and seeds: {'; '.join(told)}{rest}.",
    )


def _range(values: Sequence[float]) -> str:
    low, high = number(min(values)), number(max(values))
    return f"ε {low}" if low == high else f"ε {low} to {high}"


def _arm(line: DefenseLine, lines: Sequence[DefenseLine]) -> str:
    several = len({each.rule for each in lines}) > 1
    return _called(line.defense) + (f" by {line.rule}" if several else "")


def _called(defense: str) -> str:
    return "without a defense" if defense == OPEN else f"under {defense}"


def _cost(lines: Sequence[DefenseLine], defense: str) -> str:
    """The accuracy that a defense costs beside none, under the first rule that has both."""
    for base in (line for line in lines if line.defense == OPEN and defense != OPEN):
        for line in lines:
            change = line.accuracy.median - base.accuracy.median
            if (line.defense, line.rule) == (defense, base.rule) and not math.isnan(change):
                return f"; accuracy {line.accuracy.median:.3f}, {change:+.3f}"
    return ""


def _seeds(lines: Sequence[DefenseLine]) -> str:
    counts = sorted({line.seeds for line in lines})
    told = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{told} seed{'s' * (counts[-1] != 1)}"
