"""What a comparison shows: which defense stops what, and at which cost, in a sentence a threat."""

import math
from collections.abc import Sequence

import pandas as pd

from fedlab.metrics.verdict import SUCCEEDS
from fedlab.report.tables.defenses import DefenseLine, Epsilon, defense_lines
from fedlab.report.tables.naming import UNDEFENDED, under
from fedlab.report.tables.numbers import decibels, listed, number
from fedlab.report.verdicts.run import (
    NOT_SHOWN,
    Verdict,
    circumstances,
    leaking_images,
    scored_images,
    strongest_attack,
)


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
    shown, hidden, attacks = [], [], []
    for label, each in rows.groupby("defense", sort=False):
        defense, (leaking, images) = str(label), leaking_images(each)
        strongest = strongest_attack(each)
        attacks.append(strongest)
        told = f"{leaking} of {images} images, {decibels(strongest.psnr)}"
        if leaking:
            shown.append(f"{under(defense)} ({told})")
        else:
            first = next(line for line in lines if line.defense == defense)
            hidden.append(f"{under(defense)} ({told}{_cost(lines, first)})")
    clauses = [f"Images leak {listed(shown)}"] if shown else []
    if hidden:
        clauses.append(f"{'no' if shown else 'No'} leak is shown {listed(hidden)}")
    chances = [each.chance for each in attacks]
    low, high = decibels(min(chances)), decibels(max(chances))
    names = list(dict.fromkeys(each.name for each in attacks))
    clauses.append(
        f"chance is {low if low == high else f'{low} to {high}'}, PSNR the median of the strongest "
        f"attack on each ({listed(names, 'or')}), the setting "
        f"{circumstances(pd.concat([each.rows for each in attacks]))}"
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

    works, stopped = [], []
    for line in measured:
        rate, chance = line.attack_success.median, line.chance_success.median
        told = f"{rate:.2f}" + ("" if math.isnan(chance) else f", by chance {chance:.2f}")
        if line.success_above_chance.median >= SUCCEEDS:
            works.append(
                f"{_arm(line, lines)} ({told}, at an accuracy of {line.accuracy.median:.3f})"
            )
        else:
            stopped.append(f"{_arm(line, lines)} ({told}{_cost(lines, line)})")
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
    bounded = [line for line in lines if not math.isnan(line.epsilon.protected)]
    if not bounded:
        return Verdict(
            "Privacy spent",
            "ε ∞",
            "No run has an ε over what its clients sent, so the total of everybody is infinite.",
        )
    told = []
    for line in bounded:
        text = f"{_arm(line, lines)} {_epsilon(line.epsilon)}"
        if line.attacked.text not in ("-", line.epsilon.text):
            text += f" (attacked clients {_epsilon(line.attacked)})"
        told.append(text)
    without = list(dict.fromkeys(under(line.defense) for line in lines if line not in bounded))
    rest = f"; no total has a bound {listed(without)}" if without else ""
    return Verdict(
        "Privacy spent",
        _ranges(lines),
        "At most, over honest clients and seeds, at δ = "
        f"{', '.join(f'{delta:g}' for delta in sorted({line.delta for line in bounded}))}: "
        f"{'; '.join(told)}{rest}.",
    )


def _epsilon(epsilon: Epsilon) -> str:
    partly = " in protected rounds" if epsilon.told != epsilon.total else ""
    return f"ε {number(epsilon.told)}{partly}, hiding one {epsilon.unit}"


def _ranges(lines: Sequence[DefenseLine]) -> str:
    """The totals of all arms, those that hide an example apart from those that hide a client."""
    units = {line.epsilon.unit: None for line in lines if line.epsilon.unit}
    found = []
    for unit in units:
        totals = [line.epsilon.total for line in lines if line.epsilon.unit in (unit, "")]
        low, high = number(min(totals)), number(max(totals))
        found.append(f"ε {low if low == high else f'{low} to {high}'}")
        found[-1] += f" of one {unit}" if len(units) > 1 else ""
    return "; ".join(found)


def _arm(line: DefenseLine, lines: Sequence[DefenseLine]) -> str:
    several = len({each.rule for each in lines}) > 1
    return under(line.defense) + (f" by {line.rule}" if several else "")


def _cost(lines: Sequence[DefenseLine], line: DefenseLine) -> str:
    """The accuracy that a defense costs beside none under the same rule."""
    for base in lines:
        change = line.accuracy.median - base.accuracy.median
        if base.defense == UNDEFENDED != line.defense and base.rule == line.rule:
            beside = f"{abs(change):.3f} {'below' if change < 0 else 'above'} none"
            told = f"; accuracy {line.accuracy.median:.3f}, {beside}"
            return "" if math.isnan(change) else told
    return ""


def _seeds(lines: Sequence[DefenseLine]) -> str:
    counts = sorted({line.seeds for line in lines})
    told = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{told} seed{'s' * (counts[-1] != 1)}"
