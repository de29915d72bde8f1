"""Verdicts on a comparison: which defense stops which threat, and at which cost."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import pandas as pd

from fedlab.comparison.summary import proves_nothing
from fedlab.metrics.verdict import INCONCLUSIVE, LEAKS, NOT_SHOWN, RECOGNISABLE, SUCCEEDS
from fedlab.report.tables.defenses import DefenseLine, defense_lines, epsilon, epsilon_text
from fedlab.report.tables.naming import under
from fedlab.report.tables.numbers import (
    counted,
    decibels,
    interval,
    listed,
    number,
    seeds_in_words,
)
from fedlab.report.verdicts.counts import grades_text, percent_interval, power_sentence
from fedlab.report.verdicts.run import (
    Verdict,
    setting_sentence,
    strongest_attack,
    verdicts_by_server,
)
from fedlab.results.attacks import ImageCounts, counted_images

_CLAIMS = {
    LEAKS: "Images leak",
    RECOGNISABLE: "Images are recognisable, but none leaks by PSNR,",
    NOT_SHOWN: "No leak is shown",
    INCONCLUSIVE: "Nothing can be concluded",
}
"""First words about the defenses of each grade."""


MOST_SETTINGS = 3
"""Largest number of swept settings of a defense of which a sentence names each."""


class _Case(NamedTuple):
    """What was found under a defense at one setting.

    Attributes:
        defense: Label of the defense.
        words: The finding in words.
        found: Numbers of images by grade.
    """

    defense: str
    words: str
    found: ImageCounts


def comparison_verdicts(frame: pd.DataFrame, leakage: pd.DataFrame) -> list[Verdict]:
    """Verdicts on leaks, payloads that differ from their replay, poisoning and privacy.

    Args:
        frame: The frame of a comparison.
        leakage: The leakage table of all its runs.
    """
    lines = defense_lines(frame)
    nothing = "The server attacked no update in any of the runs."
    leaks = verdicts_by_server(leakage, partial(_leak, lines), nothing)
    return [*leaks, _poison(lines), _privacy(lines)]


def _leak(lines: Sequence[DefenseLine], rows: pd.DataFrame) -> tuple[str, str]:
    attacks = []
    cases: dict[str, list[_Case]] = {claim: [] for claim in _CLAIMS.values()}
    for (defense, point), each in rows.groupby(["defense", "grid"], sort=False):
        found = counted_images(each)
        attack = strongest_attack(each)
        attacks.append(attack)
        line = next(line for line in lines if (line.defense, line.grid) == (defense, point))
        share = f", {percent_interval(found.low, found.high)}" * (found.clusters > 1)
        result = (
            f"{found.leaking} of {counted(found.images, 'image')}{share}{grades_text(found)}, "
            f"{decibels(attack.psnr)}"
        )
        cost = "" if found.leaking else _cost(line)
        words = f"{under(str(defense))}{_at(line)} ({result}{_fewer(lines, line)}{cost})"
        cases[_CLAIMS[found.grade]].append(_Case(str(defense), words, found))
    chances = [attack.chance for attack in attacks]
    chance = interval(decibels(min(chances)), decibels(max(chances)))
    names = listed(list(dict.fromkeys(attack.name for attack in attacks)), "or")
    warning = proves_nothing(rows)
    strongest = pd.concat([attack.rows for attack in attacks])
    power = power_sentence(strongest)
    sentences = (
        f"{warning[:1].upper()}{warning[1:]} " * bool(warning)
        + "".join(_sentences(claim, _told(each)) for claim, each in cases.items())
        + "Intervals are of the leaking share at 95 %, over seeds and clients. " * _several(rows)
        + f"{power} " * bool(power)
        + f"PSNR is the median of the strongest attack on each defense ({names}); chance is "
        f"{chance}. {setting_sentence(strongest)} {_seeds(lines)}"
    )
    return INCONCLUSIVE if warning else counted_images(rows).grade, sentences


def _poison(lines: Sequence[DefenseLine]) -> Verdict:
    measured = [line for line in lines if not math.isnan(line.attack_success_rate)]
    if not measured:
        return Verdict(
            "Poison",
            NOT_SHOWN,
            "No run has an attack success rate: no client poisons, or the poisoning targets no "
            "class and affects the accuracy alone.",
        )
    works, stopped = [], []
    for line in measured:
        chance = line.chance_success_rate
        rate = f"{line.attack_success_rate:.2f}"
        rate += "" if math.isnan(chance) else f", by chance {chance:.2f}"
        if line.success_above_chance >= SUCCEEDS:
            works.append(f"{_arm(line, lines)} ({rate}; accuracy {line.accuracy:.3f})")
        else:
            stopped.append(f"{_arm(line, lines)} ({rate}{_cost(line)})")
    return Verdict(
        "Poison",
        "succeeds" if works else NOT_SHOWN,
        _sentences("The poisoning succeeds", works)
        + _sentences("No success is shown", stopped)
        + "The first number is the median attack success rate after the last round. "
        + _seeds(lines),
    )


def _privacy(lines: Sequence[DefenseLine]) -> Verdict:
    bounded = [line for line in lines if not math.isnan(line.epsilon_protected)]
    if not bounded:
        return Verdict(
            "Privacy spent",
            "ε ∞",
            "No run has an ε over what its clients sent, so every total is infinite.",
        )
    parts = []
    for line in bounded:
        other = epsilon_text(line, "attacked_") not in ("-", epsilon_text(line))
        attacked = f" (attacked clients {_epsilon(line, 'attacked_')})" if other else ""
        parts.append(f"{_arm(line, lines)} {_epsilon(line)}{attacked}")
    without = list(dict.fromkeys(under(line.defense) for line in lines if line not in bounded))
    deltas = ", ".join(f"{delta:g}" for delta in sorted({line.delta for line in bounded}))
    return Verdict(
        "Privacy spent",
        _totals(lines),
        f"The largest ε of honest clients over all seeds, at δ = {deltas}: {'; '.join(parts)}."
        + (f" No total has a bound {listed(without)}." if without else ""),
    )


def _told(cases: Sequence[_Case]) -> list[str]:
    """The findings, with one for all settings of a defense that has many."""
    found = []
    for defense in dict.fromkeys(each.defense for each in cases):
        own = [each for each in cases if each.defense == defense]
        if len(own) <= MOST_SETTINGS:
            found += [each.words for each in own]
            continue
        shares = [each.found.leaking / max(each.found.images, 1) for each in own]
        names = ("images", "leaking", "recognisable", "inconclusive", "skipped")
        together = replace(
            own[0].found, **{name: sum(getattr(each.found, name) for each in own) for name in names}
        )
        found.append(
            f"{under(defense)} at {len(own)} settings ({together.leaking} of {together.images} "
            f"images, by setting {percent_interval(min(shares), max(shares))}"
            f"{grades_text(together)}; the table has each)"
        )
    return found


def _sentences(claim: str, cases: Sequence[str]) -> str:
    return f"{claim} {listed(cases)}. " if cases else ""


def _epsilon(line: DefenseLine, whose: str = "") -> str:
    value = epsilon(line, whose)
    partly = " in protected rounds" * (value != getattr(line, f"{whose}epsilon_total"))
    return f"ε {number(value)}{partly} for one {line.unit}"


def _totals(lines: Sequence[DefenseLine]) -> str:
    """The range of totals by unit, since epsilons of two units are not comparable."""
    units = [unit for unit in dict.fromkeys(line.unit for line in lines) if unit]
    found = []
    for unit in units:
        totals = [line.epsilon_total for line in lines if line.unit in (unit, "")]
        text = interval(number(min(totals)), number(max(totals)))
        found.append(f"ε {text}" + f" of one {unit}" * (len(units) > 1))
    return "; ".join(found)


def _arm(line: DefenseLine, lines: Sequence[DefenseLine]) -> str:
    several = len({each.rule for each in lines}) > 1
    return under(line.defense) + f" by {line.rule}" * several + _at(line)


def _at(line: DefenseLine) -> str:
    return f" at {line.grid}" * bool(line.grid)


def _cost(line: DefenseLine) -> str:
    """Accuracy of a defense beside no defense under the same rule and settings."""
    change = line.accuracy_change
    if math.isnan(change):
        return ""
    side = "lower" if change < 0 else "higher"
    return f"; accuracy {line.accuracy:.3f}, {abs(change):.3f} {side} than undefended"


def _fewer(lines: Sequence[DefenseLine], line: DefenseLine) -> str:
    """Paired difference to no defense, in percentage points; not for several rules together."""
    if math.isnan(line.fewer_leaks) or line.clusters < 2 or len({e.rule for e in lines}) > 1:
        return ""
    ends = interval(f"{100 * line.fewer_leaks_low:z.0f}", f"{100 * line.fewer_leaks_high:z.0f}")
    return f"; {100 * line.fewer_leaks:z.0f} ({ends}) percentage points fewer than undefended"


def _several(rows: pd.DataFrame) -> bool:
    return counted_images(rows).clusters > 1


def _seeds(lines: Sequence[DefenseLine]) -> str:
    return f"Results are over {seeds_in_words(line.seeds for line in lines)}."
