"""Timeline of a run: defenses, accuracy, reconstruction quality and epsilon against the round."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fedlab.core.schedule import resolve_rounds
from fedlab.metrics.verdict import INCONCLUSIVE, LEAKS, NOT_SHOWN, RECOGNISABLE
from fedlab.privacy.accounts import Account
from fedlab.privacy.ledger import Ledger
from fedlab.report.figures.colours import FAINT, INK, LINE, OTHER_COLOUR, defense_colour
from fedlab.report.figures.sheet import (
    TINY,
    NothingToDraw,
    Options,
    Picture,
    in_words,
    inches,
    new_picture,
    styled,
    wrapped,
)
from fedlab.report.tables.naming import OPEN, UNDEFENDED, named, spelled
from fedlab.report.tables.numbers import number
from fedlab.report.verdicts.counts import grades_text
from fedlab.results.attacks import GRADES, counted_images, scored_images
from fedlab.results.folder import RunFolder
from fedlab.results.rows import RoundRow

NOTHING = "sent nothing"
"""Name of the band of clients that declined."""

_WIDTH, _PANEL, _LEGEND = 8.8, 1.5, 1.7
"""Widths of figure and legends and least height of a panel, in inches."""

_HATCHES = ("", "///", "...", "xxx", "\\\\\\", "ooo")
_SHAPES = "osD^v"
"""Hatches and markers of combinations of defenses, which share a colour."""

MOST_BINS = 250
"""Largest number of steps of the axis of rounds that a reader can tell apart: of longer runs each
step is several rounds."""

MOST_MARKS = 1_000
"""Number of marks up to which all are drawn; of more, those that would cover each other are not."""

MOST_DOTS = 100
"""Number of rounds up to which lines have a dot for each of them."""

_MOST_TOGGLES = 10
"""Largest number of toggles that are described; of more only the marks are drawn."""


@styled()
def timeline_figure(run: RunFolder) -> Picture:
    """Draw up to four panels over one axis of rounds; panels with nothing to show are left out.

    From above: the share of the sampled clients that ran each defense, with toggles marked;
    accuracy, and attack success with its chance where clients poison, on grey in those rounds; PSNR
    of every attacked image beside chance; and epsilon of the protected rounds, the largest of all
    clients, with a cross where a total becomes infinite. Of more than ``MOST_BINS`` rounds, shares
    and chance are those of several rounds together.

    Raises:
        NothingToDraw: If no round has ended yet.
    """
    rows = run.rounds()
    last = max((row.round for row in rows), default=0)
    if not last:
        raise NothingToDraw("no round has ended yet, so there is no timeline")
    clients, ledger = run.table("clients"), run.ledger()
    bands = bands_of(clients)
    poisoned = sorted(set(clients.loc[clients["role"] == "poisoning", "round"]))
    seen = scored_images(run.table("leakage"))
    attacked = bool((seen["skipped"] == "").any())
    spent = bounded_accounts(ledger)
    toggles, width = _toggles(run, last), -(-last // MOST_BINS)
    names = ["share of\nclients", "share of\ntest images"]
    names += ["PSNR (dB)"] * attacked + ["epsilon of\nprotected rounds"] * bool(spent)
    legends = "\n".join(wrapped(str(name), _LEGEND) for name in bands)
    heights = [max(_PANEL, 1.05 * inches(legends)), *[_PANEL] * (len(names) - 1)]
    title = f"{run.scenario.name}: what happened round by round?"
    notes = [*_toggle_notes(toggles), *_notes(seen, poisoned), *_epsilon_notes(ledger, spent)]
    if width > 1:
        notes.append(f"Shares of clients and chance: over {width} rounds together.")
    picture = new_picture(_WIDTH, sum(heights) + 0.75, title=title, notes=notes)
    panels = picture.subplots(len(names), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, name in zip(panels, names, strict=True):
        axes.set_ylabel(name)
    picture.align_ylabels()
    _draw_bands(panels[0], bands, width)
    _draw_toggles(panels[0], toggles, width)
    _draw_model(panels[1], rows, poisoned, width)
    if attacked:
        _draw_seen(panels[2], seen, width)
    if spent:
        _draw_epsilon(panels[-1], ledger, spent)
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
    ran = [f"{name} in {sum(share > 0)} of {last} rounds" for name, share in bands.items()]
    accuracy = f"accuracy {rows[-1].accuracy:.2f} after round {last}"
    picture.alt = in_words(picture, f"Clients ran {', '.join(ran)}; {accuracy}", *notes)
    return picture


def bands_of(clients: pd.DataFrame) -> pd.DataFrame:
    """Shares in [0, 1] of the sampled clients by round and by the defenses that they ran.

    Columns are names joined by ``+``: first ``open``, then defenses as they first appear.

    Args:
        clients: The table ``clients`` of a run.
    """
    declined = ~clients["status"].isin(["ok", "refused"])
    ran = clients["defenses"].map(named).mask(declined, NOTHING)
    names = sorted(dict.fromkeys(ran), key=lambda name: (name != OPEN, name == NOTHING))
    rounds = range(1, int(clients["round"].max()) + 1)
    counts = pd.crosstab(clients["round"], ran).reindex(index=rounds, columns=names, fill_value=0)
    return counts.div(counts.sum(axis=1).clip(lower=1), axis=0)


def bounded_accounts(ledger: Ledger) -> dict[Account, "pd.Series[float]"]:
    """Largest epsilon of all clients after each round, of accounts that any client spent from."""
    courses = {account: ledger.course(account).max(axis=1) for account in ledger.accounts}
    return {account: course for account, course in courses.items() if course.notna().any()}


def _bins(rounds: Iterable[int], width: int) -> list[int]:
    """The steps of the axis, from 0, of some rounds."""
    return sorted({(round - 1) // width for round in rounds})


def _edges(steps: int, width: int) -> "np.ndarray[Any, Any]":
    return np.arange(steps + 1) * width + 0.5


def _draw_bands(axes: Axes, bands: pd.DataFrame, width: int) -> None:
    hatches = cycle(_HATCHES)
    bands = bands.groupby((bands.index - 1) // width).mean()
    edges = _edges(len(bands), width)
    for name, top in bands.cumsum(axis=1).items():
        colour = LINE if name == NOTHING else defense_colour(UNDEFENDED if name == OPEN else name)
        axes.stairs(
            top,
            edges,
            baseline=top - bands[name],
            fill=True,
            facecolor=colour,
            edgecolor="white",
            # White edges of many narrow steps would leave no colour between them.
            linewidth=0.8 if len(bands) <= MOST_DOTS else 0,
            hatch=next(hatches) if colour == OTHER_COLOUR else "",
            label=wrapped(str(name), _LEGEND),
        )
    axes.set_ylim(0, 1)


def _draw_toggles(axes: Axes, toggles: dict[int, list[str]], width: int) -> None:
    """Mark the rounds from which on toggles apply, with the numbers that the notes explain."""
    for step in _bins(toggles, width):
        axes.axvline(step * width + 0.5, color=INK, linewidth=1, linestyle=(0, (1, 1)))
    if sum(map(len, toggles.values())) <= _MOST_TOGGLES:
        for place, round in enumerate(toggles, start=1):
            at: Options = {"xytext": (0, 2), "textcoords": "offset points", "ha": "center"}
            axes.annotate(str(place), (round - 0.5, 1), size=TINY, **at)


def _draw_model(axes: Axes, rows: Sequence[RoundRow], poisoned: Iterable[int], width: int) -> None:
    for step in _bins(poisoned, width):
        left, right = _edges(step + 1, width)[-2:]
        axes.axvspan(left, right, color=LINE, alpha=0.4, linewidth=0, zorder=0)
    axes.set_ylim(0, 1.04)
    table = pd.DataFrame(map(asdict, rows)).set_index("round")
    dots = len(rows) <= MOST_DOTS
    lines: dict[str, tuple[str, Options]] = {
        "accuracy": ("accuracy", {"color": INK, "marker": "o" * dots}),
        "attack success": (
            "attack_success_rate",
            {"color": FAINT, "marker": "s" * dots, "ls": "--"},
        ),
        "success by chance": ("chance_success_rate", {"color": FAINT, "ls": ":"}),
    }
    for name, (column, style) in lines.items():
        values = table[column].astype(float)
        if values.notna().any():
            end = f" {values.iloc[-1]:.2f}" if values.notna().iloc[-1] else ""
            axes.plot(values.index, values, markersize=3, label=name + end, **style)


def _draw_seen(axes: Axes, seen: pd.DataFrame, width: int) -> None:
    """Draw the PSNR of every attacked image, filled by its grade, and chance in grey."""
    seen = seen[seen["skipped"] == ""]
    images = seen.groupby("round")
    steps = (images.cumcount() + 1) / (images["psnr"].transform("size") + 1)
    seen = seen.assign(place=seen["round"] - 0.3 + 0.6 * steps)
    lost = _uncovered(seen[seen["psnr"].isna()])
    foot = axes.get_xaxis_transform()
    axes.plot(lost["place"], [0.05] * len(lost), "x", color=FAINT, markersize=4, transform=foot)
    point: Options = {"linewidth": 0, "markersize": 5 if len(seen) < 100 else 3.5}
    usual = {LEAKS, NOT_SHOWN}
    for name in GRADES:
        if name in usual | set(seen["verdict"]):
            axes.plot([], [], "o", label=name, **_marker(name, INK), **point)
    joint = [name for name in seen["defenses"].unique() if defense_colour(name) == OTHER_COLOUR]
    shapes = dict(zip(joint, cycle(_SHAPES), strict=False))
    for (defenses, verdict), some in _uncovered(seen).groupby(["defenses", "verdict"]):
        style = _marker(str(verdict), defense_colour(str(defenses)))
        shape = shapes.get(str(defenses), "o")
        axes.plot(some["place"], some["psnr"], shape, **style, **point)
    for name in joint if len(joint) > 1 else ():
        label = wrapped(name, _LEGEND)
        axes.plot([], [], shapes[name], color=OTHER_COLOUR, label=label, **point)
    drawn = pd.concat([seen["psnr"], seen["chance_psnr"]]).dropna()
    low, high = (drawn.min(), drawn.max()) if len(drawn) else (0.0, 1.0)
    room = max(high - low, 1.0)
    axes.set_ylim(low - 0.12 * room, high + 0.06 * room)
    steps = (seen["round"] - 1) // width
    chance = seen.groupby(steps)["chance_psnr"].agg(["min", "median", "max"])
    chance = chance.reindex(range(int(steps.max()) + 1))
    edges = _edges(len(chance), width)
    around: Options = {"fill": True, "color": LINE, "alpha": 0.6, "linewidth": 0, "zorder": 0}
    axes.stairs(chance["max"], edges, baseline=chance["min"], label="chance: range", **around)
    middle: Options = {"baseline": None, "color": FAINT, "linewidth": 1.5, "zorder": 1}
    axes.stairs(chance["median"], edges, label="chance: median", **middle)


def _uncovered(seen: pd.DataFrame) -> pd.DataFrame:
    """The images whose marks are drawn: of many that would cover each other the first."""
    if len(seen) <= MOST_MARKS:
        return seen
    # A mark is 3.5 points high, in a panel of some 100 by 400 points.
    whole = seen[["place", "psnr"]]
    cells = (whole - whole.min()) / (whole.max() - whole.min()) * [160, 40] // 1
    return seen[~seen[["defenses", "verdict"]].join(cells).duplicated()]


def _marker(verdict: str, colour: str) -> Options:
    """Full for an image that leaks, half for a recognisable one, pale if inconclusive."""
    if verdict == RECOGNISABLE:
        return {"color": colour, "fillstyle": "left", "markerfacecoloralt": "white"}
    if verdict == INCONCLUSIVE:
        return {"color": colour, "markerfacecolor": "white", "alpha": 0.4}
    return {"color": colour, "markerfacecolor": colour if verdict == LEAKS else "white"}


def _draw_epsilon(axes: Axes, ledger: Ledger, spent: dict[Account, "pd.Series[float]"]) -> None:
    """Draw epsilon of protected rounds, with a cross where totals become infinite."""
    known = pd.concat(spent).replace(math.inf, math.nan).where(lambda value: value > 0)
    log = bool(known.max() > 50 * known.min())
    clients = sum(map(bool, ledger.histories.values()))
    for place, (account, course) in enumerate(spent.items()):
        broken = sorted(ledger.first_open(account).values())
        text = f"{account.mechanism}: {number(course.iloc[-1])}"
        text += f"\n∞ in all: {len(broken)} of {clients}" * bool(broken)
        colour = defense_colour(account.mechanism)
        # Before the first protected round epsilon is 0, which a logarithmic axis cannot show.
        values = pd.concat([pd.Series({0: math.nan}), course]).fillna(math.nan if log else 0.0)
        dots = "o" * (len(values) <= MOST_DOTS)
        style: Options = {"where": "post", "color": colour, "marker": dots, "markersize": 3}
        axes.step(values.index, values.replace(math.inf, math.nan), label=text, **style)
        cross: Options = {"markersize": 6, "markeredgewidth": 1.5, "color": colour}
        cross |= {"transform": axes.get_xaxis_transform(), "clip_on": False, "zorder": 4}
        rounds = list(dict.fromkeys(broken))
        axes.plot(rounds, [0.07 + 0.13 * place] * len(rounds), "x", **cross)
    if log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.1 * (known.max() if known.any() else 1.0))


def _toggles(run: RunFolder, last: int) -> dict[int, list[str]]:
    """Toggles in words, by the first round that they changed."""
    found: dict[int, list[str]] = defaultdict(list)
    for event in run.toggles():
        first = min(resolve_rounds(event["rounds"], run.scenario.rounds))
        switched = f"{event['defense']} {'on' if event['on'] else 'off'}"
        if first <= last:
            found[first].append(f"{switched}, clients {spelled(event['clients'])}")
    return dict(sorted(found.items()))


def _toggle_notes(toggles: dict[int, list[str]]) -> list[str]:
    count = sum(map(len, toggles.values()))
    if count > _MOST_TOGGLES:
        return [f"Dotted: {count} toggles; see toggles.jsonl."]
    return [
        f"Dotted line {place}, before round {round}: {'; '.join(texts)}."
        for place, (round, texts) in enumerate(toggles.items(), start=1)
    ]


def _notes(seen: pd.DataFrame, poisoned: Sequence[int]) -> list[str]:
    notes = [f"Grey: clients poison in rounds {spelled(poisoned)}."] if poisoned else []
    if seen.empty:
        return notes
    leaks = []
    for threat, each in seen.groupby("threat"):
        found = counted_images(each)
        whom = " to a malicious server" * (threat == "malicious")
        leaks.append(f"{found.leaking} of {found.images} images leak{whom}{grades_text(found)}")
    found = counted_images(seen)
    images = found.images - found.skipped
    tried = seen[seen["skipped"] == ""]
    marks = "" if images == len(tried) else f", a mark for each attack ({len(tried):,} in all),"
    lost = "; x: no image came out" * bool(tried["psnr"].isna().any())
    colour = "in the colour of the defense that was on"
    notes.append(f"PSNR of {images} images{marks} {colour}{lost}; {', '.join(leaks)}.")
    return notes + ["Equal marks on each other are drawn once."] * (len(tried) > MOST_MARKS)


def _epsilon_notes(ledger: Ledger, spent: Iterable[Account]) -> list[str]:
    notes = []
    for account in spent:
        broken: dict[int, list[int]] = defaultdict(list)
        for client, round in ledger.first_open(account).items():
            broken[round].append(client)
        when = [f"round {round}: {spelled(who)}" for round, who in sorted(broken.items())]
        when[4:] = [f"and in {len(when) - 4} later rounds"] * (len(when) > 4)
        if when:
            notes.append(
                f"x: clients whose total becomes infinite without {account.mechanism}, "
                f"{'; '.join(when)}."
            )
    return notes + ["Epsilon: largest of all clients."] * bool(spent)
