"""A run over its rounds: defenses, accuracy, what the server saw, and epsilon."""

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fedlab.core.schedule import resolve_rounds, spell
from fedlab.report.figures.bands import Band, bands_of, draw_bands
from fedlab.report.figures.colours import FAINT, INK
from fedlab.report.figures.panels import Spent, draw_epsilon, draw_model, draw_seen, spent_of
from fedlab.report.figures.sheet import NothingToDraw, Picture, Sheet
from fedlab.report.figures.text_layout import SMALL, TEXT, TITLE, line_height, width, wrapped
from fedlab.report.tables.numbers import number
from fedlab.report.verdicts.run import leaking_images, scored_images
from fedlab.results.folder import RunFolder
from fedlab.results.rows import RoundRow

# All in inches.
_WIDTH = 8.8
_MARGIN = 0.25
_LEFT = 0.95
_RIGHT = 1.75  # room for what lines are called
_PANEL = 1.45
_BETWEEN = 0.2
_DOTTED: dict[str, Any] = {"color": INK, "linewidth": 1, "linestyle": (0, (1, 1))}

_MOST_TOGGLES = 10
"""Written above the bands; of more only the marks are drawn."""


def timeline_figure(run: RunFolder) -> Picture:
    """Panels over one axis of rounds; those with nothing to show are left out.

    From above: the share of the sampled clients that ran each defense, toggles marked; accuracy,
    and attack success with its chance if anybody poisons, in whose rounds it is grey; PSNR of every
    attacked image beside chance; epsilon of the protected rounds, the largest of all clients, with
    a cross where a total becomes infinite.

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
    leakage = run.table("leakage")
    seen = scored_images(leakage)
    spent = spent_of(run.ledger(), last)
    title = f"{run.scenario.name}: what happened round by round?"
    titles = wrapped(title, TITLE, _WIDTH - 2 * _MARGIN, bold=True)
    toggles = _toggles(run, last)
    written = toggles if len(toggles) <= _MOST_TOGGLES else []
    notes = _notes(spent, seen, poisoned, len(toggles) - len(written))
    top = _MARGIN + len(titles) * line_height(TITLE) + 0.12 + len(written) * line_height(SMALL)
    panels = 2 + (len(seen) > 0) + (len(spent) > 0)
    below = 0.5 + len(notes) * line_height(SMALL) + _MARGIN
    sheet = Sheet(_WIDTH, top + panels * (_PANEL + _BETWEEN) - _BETWEEN + below)
    sheet.lines(_MARGIN, _MARGIN, titles, size=TITLE, bold=True)

    across = _WIDTH - _LEFT - _RIGHT
    shown: list[Axes] = []

    def panel(name: str) -> Axes:
        y = top + len(shown) * (_PANEL + _BETWEEN)
        axes = sheet.axes(_LEFT, y, across, _PANEL)
        axes.set_xlim(-0.3, last + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.tick_params(labelbottom=False)
        axes.set_ylabel(name, color=FAINT, fontsize=TEXT)
        axes.yaxis.set_label_coords(-0.55 / across, 0.5)
        shown.append(axes)
        return axes

    def beside(axes: Axes, names: Sequence[tuple[float, str, str]]) -> None:
        """Name at the right of a panel what is drawn, each as near to its height as it can be."""
        y = top + shown.index(axes) * (_PANEL + _BETWEEN)
        heights = axes.transLimits.transform(
            axes.transScale.transform([(1, at) for at, _, _ in names])
        )[:, 1]
        wanted = [
            (y + (1 - h) * _PANEL, text) for h, (_, text, _) in zip(heights, names, strict=True)
        ]
        for at, (_, text, ink) in zip(_spread(wanted, y + _PANEL), names, strict=True):
            sheet.lines(_WIDTH - _RIGHT + 0.1, at, text.split("\n"), size=SMALL, colour=ink)

    axes = panel("share of\nclients")
    axes.set_ylim(0, 1)
    _key(sheet, draw_bands(axes, bands, (across, _PANEL)), top)
    for row, (round, text) in enumerate(reversed(written)):
        # The latest lies lowest, so that no line down to the bands runs through a text.
        above = 0.06 + row * line_height(SMALL)
        _toggle(sheet, _LEFT + (round - 0.5 + 0.3) / (last + 0.8) * across, text, top - above)
        axes.axvline(round - 0.5, ymax=1 + (above + 0.02) / _PANEL, clip_on=False, **_DOTTED)
    for round, _ in toggles[len(written) :]:
        axes.axvline(round - 0.5, **_DOTTED)
    axes = panel("share of\ntest images")
    beside(axes, draw_model(axes, rows, poisoned))
    if len(seen):
        axes = panel("PSNR (dB)")
        beside(axes, draw_seen(axes, seen))
    if spent:
        axes = panel("epsilon of\nprotected rounds")
        beside(axes, draw_epsilon(axes, spent))
    shown[-1].tick_params(labelbottom=True)
    bottom = top + panels * (_PANEL + _BETWEEN) - _BETWEEN
    sheet.text(_LEFT + across / 2, bottom + 0.25, "round", size=TEXT, colour=FAINT)
    sheet.lines(_MARGIN, bottom + 0.47, notes, size=SMALL, colour=FAINT)
    sheet.figure.alt = _in_words(title, rows, bands, seen, spent, poisoned)
    return sheet.figure


def _key(sheet: Sheet, bands: Sequence[Band], top: float) -> None:
    """Name bands that are too thin for it, the highest first as they are stacked."""
    x, room = _WIDTH - _RIGHT + 0.1, _RIGHT - 0.4
    for band in reversed(bands):
        sheet.swatch(x, top, size=SMALL, colour=band.colour, hatch=band.hatch)
        top = sheet.lines(x + 0.22, top, wrapped(band.name, SMALL, room), size=SMALL)


def _spread(wanted: Sequence[tuple[float, str]], bottom: float) -> list[float]:
    """Where texts begin, so that each is near its height and none lies on another."""
    order = sorted(range(len(wanted)), key=lambda place: wanted[place][0])
    heights = [line_height(SMALL) * (1 + text.count("\n")) for _, text in wanted]
    starts = [0.0] * len(wanted)
    free = -float("inf")
    for place in order:
        starts[place] = max(wanted[place][0] - line_height(SMALL) / 2, free)
        free = starts[place] + heights[place]
    limit = bottom + 0.1
    for place in reversed(order):
        starts[place] = min(starts[place], limit - heights[place])
        limit = starts[place]
    return starts


def _toggles(run: RunFolder, last: int) -> list[tuple[int, str]]:
    """The first round that each toggle changed, and the toggle in words, by round."""
    file = run.path / "toggles.jsonl"
    if not file.is_file():
        return []
    found = []
    for line in file.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        first = min(resolve_rounds(event["rounds"], run.scenario.rounds))
        clients = spell(event["clients"])
        text = f"{event['defense']} {'on' if event['on'] else 'off'}, clients {clients}"
        found.append((first, text))
    return sorted(each for each in found if each[0] <= last)


def _toggle(sheet: Sheet, x: float, text: str, y: float) -> None:
    """Write a toggle above the round from which on it counts, or ending there if it is late."""
    room = _WIDTH - _MARGIN
    fits = x + 0.05 + width(text, SMALL) <= room
    place = (x + 0.05, "left") if fits else (room, "right")
    sheet.text(place[0], y, text, size=SMALL, align=(place[1], "bottom"))
    sheet.figure.texts[-1].set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})


def _notes(
    spent: Sequence[Spent], seen: pd.DataFrame, poisoned: Sequence[int], toggles: int
) -> list[str]:
    notes = ["Grey: rounds in which clients poison."] if poisoned else []
    if toggles:
        notes.append(f"Dotted: {toggles} toggles; see toggles.jsonl.")
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
            )
    if spent:
        notes.append("Epsilon: largest of all clients.")
    return [line for note in notes for line in wrapped(note, SMALL, _WIDTH - 2 * _MARGIN)]


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
    if len(seen):
        for threat, images in seen.groupby("threat"):
            leaking, attacked = leaking_images(images)
            whom = " to a malicious server" * (threat == "malicious")
            facts.append(f"{leaking} of {attacked} attacked images leak{whom}")
    for each in spent:
        facts.append(
            f"epsilon of rounds under {each.mechanism} {number(max(each.epsilons.items())[1])}"
        )
    return f"{title} Clients ran {ran}; {', '.join(facts)}."
