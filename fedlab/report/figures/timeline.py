"""Timeline of a run: defenses, accuracy, reconstruction quality and epsilon against the round."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fedlab.core.schedule import resolve_rounds, spell
from fedlab.privacy.ledger import Ledger
from fedlab.privacy.release import participations
from fedlab.report.figures.colours import FAINT, INK, LINE, OTHER_COLOUR, defense_colour
from fedlab.report.figures.sheet import (
    TINY,
    NothingToDraw,
    Options,
    Picture,
    inches,
    new_picture,
    styled,
    wrapped,
)
from fedlab.report.tables.naming import OPEN, UNDEFENDED, named
from fedlab.report.tables.numbers import number
from fedlab.results.attacks import leaking_images, scored_images
from fedlab.results.folder import RunFolder
from fedlab.results.rows import RoundRow

NOTHING = "sent nothing"
"""Name of the band of clients that declined."""

_WIDTH, _PANEL, _LEGEND = 8.8, 1.5, 1.7
"""Widths of figure and legends and least height of a panel, in inches."""

_HATCHES = ("", "///", "...", "xxx", "\\\\\\", "ooo")
_SHAPES = "osD^v"
"""Hatches and markers of combinations of defenses, which share a colour."""

_MOST_TOGGLES = 10
"""Largest number of toggles that are described; of more only the marks are drawn."""


@dataclass(frozen=True)
class Band:
    """Share of the sampled clients that ran the same defenses.

    Attributes:
        name: Names joined by ``+``, ``open``, or ``sent nothing``.
        share: ``[rounds]``, in [0, 1].
        colour: Colour of the defense.
        hatch: Hatch in matplotlib's notation.
    """

    name: str
    share: NDArray[np.float64]
    colour: str
    hatch: str


@dataclass(frozen=True)
class Spent:
    """A privacy account over the rounds.

    Attributes:
        mechanism: Defense that spends from the account.
        epsilons: Epsilon of protected rounds after each round, the largest of all clients; NaN
            before the first such round, infinite where there is no bound.
        broken: Clients whose total becomes infinite, by round.
        clients: Number of clients that took part.
    """

    mechanism: str
    epsilons: dict[int, float]
    broken: dict[int, list[int]]
    clients: int


@styled()
def timeline_figure(run: RunFolder) -> Picture:
    """Draw up to four panels over one axis of rounds; panels with nothing to show are left out.

    From above: the share of the sampled clients that ran each defense, with toggles marked;
    accuracy, and attack success with its chance where clients poison, on grey in those rounds; PSNR
    of every attacked image beside chance; and epsilon of the protected rounds, the largest of all
    clients, with a cross where a total becomes infinite.

    Raises:
        NothingToDraw: If no round has ended yet.
    """
    rows = run.rounds()
    last = max((row.round for row in rows), default=0)
    if not last:
        raise NothingToDraw("no round has ended yet, so there is no timeline")
    clients = run.table("clients")
    bands = bands_of(clients)
    poisoned = sorted(set(clients.loc[clients["role"] == "poisoning", "round"]))
    seen = scored_images(run.table("leakage"))
    spent = spent_of(run.ledger(), last)
    toggles = _toggles(run, last)
    names = ["share of\nclients", "share of\ntest images"]
    names += ["PSNR (dB)"] * (len(seen) > 0) + ["epsilon of\nprotected rounds"] * bool(spent)
    legends = "\n".join(wrapped(band.name, _LEGEND) for band in bands)
    heights = [max(_PANEL, 1.05 * inches(legends)), *[_PANEL] * (len(names) - 1)]
    title = f"{run.scenario.name}: what happened round by round?"
    notes = _notes(spent, seen, poisoned, toggles)
    picture = new_picture(_WIDTH, sum(heights) + 0.75, title=title, notes=notes)
    panels = picture.subplots(len(names), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, name in zip(panels, names, strict=True):
        axes.set_ylabel(name)
    picture.align_ylabels()
    _draw_bands(panels[0], bands)
    _draw_toggles(panels[0], toggles)
    _draw_model(panels[1], rows, poisoned)
    if len(seen):
        _draw_seen(panels[2], seen)
    if spent:
        _draw_epsilon(panels[-1], spent)
    for axes in panels:
        handles = axes.get_legend_handles_labels()[0]
        # Bands are stacked, so their names read from the highest down.
        axes.legend(
            handles=handles[::-1] if axes is panels[0] else handles,
            loc="upper left",
            bbox_to_anchor=(1.01, 1),
            labelspacing=0.25,
        )
    panels[-1].set(xlim=(-0.3, last + 0.5), xlabel="round")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    picture.alt = _in_words(title, rows, bands, seen, spent, poisoned)
    return picture


def bands_of(clients: pd.DataFrame) -> list[Band]:
    """Bands from the lowest up: open clients, then defenses as they first appear.

    Args:
        clients: The table ``clients`` of a run.
    """
    declined = ~clients["status"].isin(["ok", "refused"])
    ran = clients["defenses"].map(named).mask(declined, NOTHING)
    counts = pd.crosstab(clients["round"], ran)
    counts = counts.reindex(range(1, int(clients["round"].max()) + 1), fill_value=0)
    shares = counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    names = sorted(dict.fromkeys(ran), key=lambda name: (name != OPEN, name == NOTHING))
    hatches = cycle(_HATCHES)
    bands = []
    for name in names:
        colour = LINE if name == NOTHING else defense_colour(UNDEFENDED if name == OPEN else name)
        hatch = next(hatches) if colour == OTHER_COLOUR else ""
        bands.append(Band(name, shares[name].to_numpy(dtype=np.float64), colour, hatch))
    return bands


def spent_of(ledger: Ledger, last: int) -> list[Spent]:
    """Accounts that any client spent from, over all rounds up to the last."""
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
            open_rounds = (p[0].round for p in participations(history) if not account.covers(p))
            if (first := next(open_rounds, None)) is not None:
                broken[first].append(client)
        taking_part = sum(map(bool, ledger.histories.values()))
        accounts.append(
            Spent(account.mechanism, epsilons, dict(sorted(broken.items())), taking_part)
        )
    return accounts


def _draw_bands(axes: Axes, bands: Sequence[Band]) -> None:
    below = np.zeros(len(bands[0].share))
    for band in bands:
        axes.stairs(
            below + band.share,
            np.arange(len(below) + 1) + 0.5,
            baseline=below,
            fill=True,
            facecolor=band.colour,
            edgecolor="white",
            linewidth=0.8,
            hatch=band.hatch,
            label=wrapped(band.name, _LEGEND),
        )
        below = below + band.share
    axes.set_ylim(0, 1)


def _draw_toggles(axes: Axes, toggles: dict[int, list[str]]) -> None:
    """Mark the rounds from which on toggles apply, with the numbers that the notes explain."""
    described = sum(map(len, toggles.values())) <= _MOST_TOGGLES
    for place, (round, texts) in enumerate(toggles.items(), start=1):
        for _ in texts:
            axes.axvline(round - 0.5, color=INK, linewidth=1, linestyle=(0, (1, 1)))
        if described:
            at: Options = {"xytext": (0, 2), "textcoords": "offset points", "ha": "center"}
            axes.annotate(str(place), (round - 0.5, 1), size=TINY, **at)


def _draw_model(axes: Axes, rows: Sequence[RoundRow], poisoned: Iterable[int]) -> None:
    for round in poisoned:
        axes.axvspan(round - 0.5, round + 0.5, color=LINE, alpha=0.4, linewidth=0, zorder=0)
    axes.set_ylim(0, 1.04)
    table = pd.DataFrame(map(asdict, rows)).set_index("round")
    lines: dict[str, tuple[str, Options]] = {
        "accuracy": ("accuracy", {"color": INK, "marker": "o"}),
        "attack success": ("attack_success_rate", {"color": FAINT, "marker": "s", "ls": "--"}),
        "success by chance": ("chance_success_rate", {"color": FAINT, "ls": ":"}),
    }
    for name, (column, style) in lines.items():
        values = table[column].astype(float)
        if values.notna().any():
            end = f" {values.iloc[-1]:.2f}" if values.notna().iloc[-1] else ""
            axes.plot(values.index, values, markersize=3, label=name + end, **style)


def _draw_seen(axes: Axes, seen: pd.DataFrame) -> None:
    """Draw the PSNR of every attacked image, filled where it leaks, and chance in grey."""
    images = seen.groupby("round")
    steps = (images.cumcount() + 1) / (images["psnr"].transform("size") + 1)
    seen = seen.assign(place=seen["round"] - 0.3 + 0.6 * steps, leaks=seen["verdict"] == "leaks")
    lost = seen[seen["psnr"].isna()]
    foot = axes.get_xaxis_transform()
    axes.plot(lost["place"], [0.05] * len(lost), "x", color=FAINT, markersize=4, transform=foot)
    point: Options = {"linewidth": 0, "markersize": 5 if len(seen) < 100 else 3.5}
    for name, fill in (("leaks", INK), ("not shown", "white")):
        axes.plot([], [], "o", color=INK, markerfacecolor=fill, label=name, **point)
    joint = [name for name in seen["defenses"].unique() if defense_colour(name) == OTHER_COLOUR]
    shapes = dict(zip(joint, cycle(_SHAPES), strict=False))
    for (defenses, leaks), some in seen.groupby(["defenses", "leaks"]):
        colour = defense_colour(str(defenses))
        axes.plot(
            some["place"],
            some["psnr"],
            color=colour,
            marker=shapes.get(str(defenses), "o"),
            markerfacecolor=colour if leaks else "white",
            **point,
        )
    for name in joint if len(joint) > 1 else ():
        shape = shapes[name]
        axes.plot([], [], shape, color=OTHER_COLOUR, label=wrapped(name, _LEGEND), **point)
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.08 * (high - low), high)
    chance = images["chance_psnr"].agg(["min", "median", "max"])
    chance = chance.reindex(range(1, int(seen["round"].max()) + 1))
    edges = np.arange(len(chance) + 1) + 0.5
    around: Options = {"fill": True, "color": LINE, "alpha": 0.6, "linewidth": 0}
    axes.stairs(
        chance["max"], edges, baseline=chance["min"], label="chance: range", zorder=0, **around
    )
    middle: Options = {"baseline": None, "color": FAINT, "linewidth": 1.5, "zorder": 1}
    axes.stairs(chance["median"], edges, label="chance: median", **middle)


def _draw_epsilon(axes: Axes, spent: Sequence[Spent]) -> None:
    """Draw epsilon of protected rounds, with a cross where totals become infinite."""
    known = [v for each in spent for v in each.epsilons.values() if math.isfinite(v) and v > 0]
    log = bool(known) and max(known) > 50 * min(known)
    for place, each in enumerate(spent):
        # Before the first protected round epsilon is 0, which a logarithmic axis cannot show.
        start = math.nan if log else 0.0
        values = [start if math.isnan(value) else value for value in each.epsilons.values()]
        text = f"{each.mechanism}: {number(each.epsilons[max(each.epsilons)])}"
        if each.broken:
            text += f"\n∞ in all: {sum(map(len, each.broken.values()))} of {each.clients}"
        colour = defense_colour(each.mechanism)
        axes.step(
            [0, *each.epsilons],
            [start, *(value if math.isfinite(value) else math.nan for value in values)],
            where="post",
            color=colour,
            marker="o",
            markersize=3,
            label=text,
        )
        cross: Options = {"markersize": 6, "markeredgewidth": 1.5, "color": colour}
        cross |= {"transform": axes.get_xaxis_transform(), "clip_on": False, "zorder": 4}
        axes.plot(list(each.broken), [0.07 + 0.13 * place] * len(each.broken), "x", **cross)
    if log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.1 * max(known, default=1.0))


def _toggles(run: RunFolder, last: int) -> dict[int, list[str]]:
    """Toggles in words, by the first round that they changed."""
    file = run.path / "toggles.jsonl"
    found: dict[int, list[str]] = defaultdict(list)
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        event = json.loads(line)
        first = min(resolve_rounds(event["rounds"], run.scenario.rounds))
        switched = f"{event['defense']} {'on' if event['on'] else 'off'}"
        if first <= last:
            found[first].append(f"{switched}, clients {spell(event['clients'])}")
    return dict(sorted(found.items()))


def _notes(
    spent: Sequence[Spent],
    seen: pd.DataFrame,
    poisoned: Sequence[int],
    toggles: dict[int, list[str]],
) -> list[str]:
    count = sum(map(len, toggles.values()))
    if count > _MOST_TOGGLES:
        notes = [f"Dotted: {count} toggles; see toggles.jsonl."]
    else:
        notes = [
            f"Dotted line {place}, before round {round}: {'; '.join(texts)}."
            for place, (round, texts) in enumerate(toggles.items(), start=1)
        ]
    if poisoned:
        notes.append("Grey: rounds in which clients poison.")
    if len(seen):
        _, images = leaking_images(seen)
        marks = "" if images == len(seen) else f", a mark for each attack ({len(seen)} in all),"
        notes.append(
            f"PSNR of {images} rebuilt images{marks} in the colour of the defense that was on"
            + ("; x: no image came out." if seen["psnr"].isna().any() else ".")
        )
    for each in spent:
        if each.broken:
            when = [f"round {r}: {spell(c)}" for r, c in list(each.broken.items())[:4]]
            more = len(each.broken) - len(when)
            notes.append(
                f"x: clients whose total becomes infinite without {each.mechanism}, "
                + "; ".join(when)
                + (f"; and in {more} later rounds" if more else "")
                + "."
            )
    return [*notes, "Epsilon: largest of all clients."] if spent else notes


def _in_words(
    title: str,
    rows: Sequence[RoundRow],
    bands: Sequence[Band],
    seen: pd.DataFrame,
    spent: Sequence[Spent],
    poisoned: Sequence[int],
) -> str:
    end = rows[-1]
    ran = ", ".join(
        f"{band.name} in {(band.share > 0).sum()} of {end.round} rounds" for band in bands
    )
    facts = [f"accuracy {end.accuracy:.2f} after round {end.round}"]
    if end.attack_success_rate is not None:
        facts.append(f"attack success {end.attack_success_rate:.2f}")
    if end.chance_success_rate is not None:
        facts.append(f"by chance {end.chance_success_rate:.2f}")
    if poisoned:
        facts.append(f"clients poison in rounds {spell(poisoned)}")
    for threat, images in seen.groupby("threat") if len(seen) else ():
        leaking, attacked = leaking_images(images)
        whom = " to a malicious server" * (threat == "malicious")
        facts.append(f"{leaking} of {attacked} attacked images leak{whom}")
    facts += [
        f"epsilon of rounds under {each.mechanism} {number(each.epsilons[max(each.epsilons)])}"
        for each in spent
    ]
    return f"{title} Clients ran {ran}; {', '.join(facts)}."
