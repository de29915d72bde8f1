"""The panels of a timeline below the defenses: the model, what the server saw, and epsilon."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from fedlab.privacy.ledger import Ledger
from fedlab.privacy.release import participations
from fedlab.report.figures.colours import FAINT, INK, LINE, OTHER_COLOUR, defense_colour
from fedlab.report.figures.text_layout import SMALL, wrapped
from fedlab.report.tables.numbers import number
from fedlab.results.rows import RoundRow

_SHAPES = {"o": "○", "s": "□", "D": "◇", "^": "△", "v": "▽"}
"""Markers of combinations of defenses, which share a colour, and how they are written."""

Name = tuple[float, str, str]
"""A height on the y axis, what is called so there, and the colour of its name."""


@dataclass(frozen=True)
class Spent:
    """An account over the rounds.

    Attributes:
        mechanism: The defense that spends from it.
        epsilons: Of protected rounds, the largest of all clients, after each round; NaN before the
            first, infinite where there is no bound.
        broken: Clients whose total becomes infinite, by round.
        clients: How many took part.
    """

    mechanism: str
    epsilons: dict[int, float]
    broken: dict[int, list[int]]
    clients: int


def spent_of(ledger: Ledger, last: int) -> list[Spent]:
    """The accounts that anybody spent from, over all rounds up to the last."""
    accounts = []
    for account in ledger.accounts:
        epsilons = {}
        for round in range(1, last + 1):
            until = ledger.until(round)
            known = [until.protected(client, account) for client in until.histories]
            epsilons[round] = max((v for v in known if v is not None), default=math.nan)
        if all(math.isnan(value) for value in epsilons.values()):
            continue
        broken: dict[int, list[int]] = defaultdict(list)
        for client, history in sorted(ledger.histories.items()):
            for part in participations(history):
                if not account.covers(part):
                    broken[part[0].round].append(client)
                    break
        taking_part = sum(map(bool, ledger.histories.values()))
        accounts.append(
            Spent(account.mechanism, epsilons, dict(sorted(broken.items())), taking_part)
        )
    return accounts


def draw_model(axes: Axes, rows: Sequence[RoundRow], poisoned: Iterable[int]) -> list[Name]:
    """Accuracy, and attack success and its chance where measured; rounds with poison are grey."""
    for round in poisoned:
        axes.axvspan(round - 0.5, round + 0.5, color=LINE, alpha=0.4, linewidth=0, zorder=0)
    rounds = [row.round for row in rows]
    accuracy = _known(row.accuracy for row in rows)
    success = _known(row.attack_success_rate for row in rows)
    chance = _known(row.chance_success_rate for row in rows)
    axes.set_ylim(0, 1.04)
    axes.plot(rounds, accuracy, color=INK, marker="o", markersize=3, label="accuracy")
    names = [(accuracy[-1], f"accuracy {accuracy[-1]:.2f}", INK)]
    if not all(map(math.isnan, success)):
        axes.plot(
            rounds,
            success,
            color=FAINT,
            marker="s",
            markersize=3,
            linestyle="--",
            label="attack success",
        )
        names.append((success[-1], f"attack success {success[-1]:.2f}", FAINT))
    if not all(map(math.isnan, chance)):
        axes.plot(rounds, chance, color=FAINT, linestyle=":", label="success by chance")
        names.append((chance[-1], f"by chance {chance[-1]:.2f}", FAINT))
    return [name for name in names if math.isfinite(name[0])]


def _known(values: Iterable[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def draw_seen(axes: Axes, seen: pd.DataFrame) -> list[Name]:
    """PSNR of every attacked image, full where it leaks, beside chance in grey."""
    by_round = seen.groupby("round")["chance_psnr"]
    rounds = range(1, int(seen["round"].max()) + 1)
    chance = pd.DataFrame({"low": by_round.min(), "mid": by_round.median(), "high": by_round.max()})
    chance = chance.reindex(rounds)
    edges = np.arange(len(chance) + 1) + 0.5
    axes.stairs(
        chance["high"], edges, baseline=chance["low"], fill=True, color=LINE, alpha=0.6, linewidth=0
    )
    axes.stairs(chance["mid"], edges, baseline=None, color=FAINT, linewidth=1.5, label="chance")
    joint = [name for name in seen["defenses"].unique() if defense_colour(name) == OTHER_COLOUR]
    shapes = dict(zip(joint, cycle(_SHAPES), strict=False))
    for _, images in seen.groupby("round"):
        places = images["round"] + np.linspace(-0.3, 0.3, len(images) + 2)[1:-1]
        for place, psnr, defenses, verdict in zip(
            places, images["psnr"], images["defenses"], images["verdict"], strict=True
        ):
            colour = defense_colour(defenses)
            if math.isnan(psnr):
                axes.plot(
                    place,
                    0.05,
                    "x",
                    color=FAINT,
                    markersize=4,
                    transform=axes.get_xaxis_transform(),
                )
                continue
            axes.plot(
                place,
                psnr,
                marker=shapes.get(defenses, "o"),
                markersize=5 if len(images) < 12 else 3.5,
                color=colour,
                markerfacecolor=colour if verdict == "leaks" else "white",
                linewidth=0,
            )
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.08 * (high - low), high)
    last = chance["mid"].dropna()
    named = joint if len(joint) > 1 else []
    return [
        (high, "●  leaks\n○  not shown", INK),
        *((low, "\n".join(wrapped(f"{_SHAPES[shapes[n]]} {n}", SMALL, 1.2)), INK) for n in named),
        (float(last.iloc[-1]), "chance: median,\nlowest to highest", FAINT),
    ]


def draw_epsilon(axes: Axes, spent: Sequence[Spent]) -> list[Name]:
    """Epsilon of protected rounds, with a cross where totals become infinite."""
    names = []
    known = [v for each in spent for v in each.epsilons.values() if math.isfinite(v) and v > 0]
    if known and max(known) > 50 * min(known):
        axes.set_yscale("log")
    for place, each in enumerate(spent):
        colour = defense_colour(each.mechanism)
        # Before the first protected round nothing was spent, which has no place on a log axis.
        steps = {0: math.nan if axes.get_yscale() == "log" else 0.0}
        for round, value in each.epsilons.items():
            steps[round] = (
                value if math.isfinite(value) else steps[0] if math.isnan(value) else math.nan
            )
        axes.step(
            list(steps),
            list(steps.values()),
            where="post",
            color=colour,
            marker="o",
            markersize=3,
            label=each.mechanism,
        )
        axes.plot(
            list(each.broken),
            [0.07 + 0.13 * place] * len(each.broken),
            linewidth=0,
            marker="x",
            markersize=6,
            markeredgewidth=1.5,
            color=colour,
            transform=axes.get_xaxis_transform(),
            clip_on=False,
            zorder=4,
        )
        end = each.epsilons[max(each.epsilons)]
        text = f"{each.mechanism}: {number(end)}"
        if each.broken:
            count = sum(map(len, each.broken.values()))
            text += f"\n∞ in all: {count} of {each.clients}"
        names.append((end if math.isfinite(end) else max(known, default=0.0), text, INK))
    if axes.get_yscale() == "linear":
        axes.set_ylim(0, 1.1 * max(known, default=1.0))
    return names
