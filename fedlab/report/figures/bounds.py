"""Figure of an audit: bounds below the ledger's epsilon, and measured shares below ceilings."""

import math

import pandas as pd
from matplotlib.axes import Axes

from fedlab.report.figures.colours import FAINT, INK, defense_colour
from fedlab.report.figures.sheet import Options, Picture, in_words, new_picture, styled
from fedlab.report.tables.audit import audit_values
from fedlab.report.tables.ceilings import percent
from fedlab.report.tables.numbers import number
from fedlab.results.attacks import best_of_each
from fedlab.simulation.auditing import Verdict

_WIDTH, _HEIGHT = 8.4, 2.4
_ZONE: Options = {"color": FAINT, "alpha": 0.25, "linewidth": 0}


@styled()
def bounds_figure(verdict: Verdict, leakage: pd.DataFrame | None = None) -> Picture:
    """Draw what an audit and attacks measured, and shade what the ledger excludes.

    Args:
        verdict: Result of the audit.
        leakage: Rows of ``leakage.csv`` of the same run; those of the audited client are drawn.
    """
    title = f"Does client {verdict.client} stay within what its ledger promises?"
    picture = new_picture(_WIDTH, _HEIGHT, title=title, notes=[_note(verdict)])
    left, right = picture.subplots(1, 2)
    _draw_epsilons(left, verdict)
    _draw_shares(right, verdict, leakage)
    picture.alt = in_words(picture)
    return picture


def _draw_epsilons(axes: Axes, verdict: Verdict) -> None:
    *measured, ledger = audit_values(verdict)
    finite = math.isfinite(ledger.epsilon)
    largest = max([value.epsilon for value in measured] + [ledger.epsilon] * finite)
    right = 1.15 * max(largest, 0.1)
    for place, value in enumerate(measured):
        fill = "none" if value.kind == "estimate" else INK
        axes.barh(place, value.epsilon, 0.6, edgecolor=INK, facecolor=fill)
    if finite:
        axes.axvspan(ledger.epsilon, right, **_ZONE)
        axes.axvline(ledger.epsilon, color=INK, linewidth=1.5)
    axes.set(xlim=(0, right), ylim=(len(measured) - 0.4, -0.6))
    labels = [f"{value.name}\n{value.kind} {number(value.epsilon)}" for value in measured]
    axes.set_yticks(range(len(measured)), labels)
    axes.set_xlabel(f"ε at δ = {verdict.bound.delta:g}")
    axes.set_title(f"ledger: ε {number(ledger.epsilon)}")


def _draw_shares(axes: Axes, verdict: Verdict, leakage: pd.DataFrame | None) -> None:
    rows: list[tuple[str, float, float | None]] = [
        (f"found of {pool}", math.nan, ceiling)
        for pool, ceiling in ((10, verdict.ceiling_10), (100, verdict.ceiling_100))
    ]
    if leakage is not None:
        own = best_of_each(leakage[leakage["client"] == verdict.client])
        for attack, images in own[own["skipped"] == ""].groupby("attack"):
            limit = images["ceiling_identified"].mean()
            name = f"{attack}\nmeasured {percent(images['iip'].mean())}, n = {len(images)}"
            rows.append((name, images["iip"].mean(), None if math.isnan(limit) else limit))
    for place, (_, share, most) in enumerate(rows):
        if most is not None and most < 1:
            axes.barh(place, 1 - most, 0.8, left=most, **_ZONE)
            axes.plot([most] * 2, [place - 0.4, place + 0.4], color=INK, linewidth=1.5)
        axes.plot(share, place, "o", color=defense_colour("none"))
    axes.set(xlim=(-0.02, 1), ylim=(len(rows) - 0.4, -0.6))
    axes.set_yticks(range(len(rows)), [f"{name}\nat most {percent(c)}" for name, _, c in rows])
    axes.set_xlabel("share of images identified")
    axes.set_title("attacks")


def _note(verdict: Verdict) -> str:
    sure = f"{100 * verdict.bound.confidence:g} %"
    return (
        f"Left: epsilon from {verdict.bound.canaries} canaries; bounds hold at {sure} confidence. "
        "Right: chances of finding an image among equally likely ones. Shaded: excluded by the "
        "ledger; a bound or a point there means that the mechanism or its accounting is broken."
    )
