"""Figure of the privacy ledger: epsilon of each client's protected rounds against the round."""

import math
from collections import defaultdict

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fedlab.privacy.accounts import Account
from fedlab.privacy.ledger import Ledger
from fedlab.report.figures.colours import FAINT, defense_colour
from fedlab.report.figures.sheet import (
    NothingToDraw,
    Options,
    Picture,
    evenly,
    in_words,
    inches,
    new_picture,
    styled,
    wrapped,
)
from fedlab.report.tables.ceilings import percent
from fedlab.report.tables.ledger import UNBOUNDED
from fedlab.report.tables.naming import spelled
from fedlab.report.tables.numbers import number

_WIDTH, _PLOT = 7.2, 2.4
"""Width of the figure and height of a plot in inches."""

MOST_LINES = 12
"""Largest number of lines in a plot."""

MOST_DOTS = 20
"""Largest number of marks on a line."""

_COLOURS = ("#332288", "#117733", "#882255", "#44AA99", "#AA4499", "#999933", "#88CCEE", "#CC6677")
_MARKS = "osD^vP<>phH8"
_DASHES = ("-", "--", "-.", ":")
"""Colours (of Paul Tol's muted scheme), marks and line styles of groups of clients; no two of
``MOST_LINES`` groups share both colour and mark."""


@styled()
def ledger_figure(ledger: Ledger) -> Picture:
    """Draw epsilon of the protected rounds, one plot for each account in use.

    Clients with equal accounts share a line with a colour and a mark. A cross marks the round from
    which on a client's total is infinite, since it took part without the account's protection. Of
    more than ``MOST_LINES`` different accounts some are drawn.

    Raises:
        NothingToDraw: If no client took part in any round yet.
    """
    if not any(ledger.histories.values()):
        raise NothingToDraw("no client has taken part in any round yet")
    every = {account: _groups(ledger, account) for account in ledger.accounts}
    groups = {account: dict(evenly([*each.items()], MOST_LINES)) for account, each in every.items()}
    notes = [
        f"{account.mechanism}: {MOST_LINES} of {len(each)} different accounts, evenly spread from "
        "the lowest to the highest epsilon; all: ledger.csv."
        for account, each in every.items()
        if len(each) > MOST_LINES
    ]
    heights = [_PLOT + 0.6 + _legend_inches(len(each)) for each in groups.values()]
    title = "What has each client's privacy cost so far?"
    picture = new_picture(_WIDTH, sum(heights), title=title, notes=notes)
    plots = picture.subplots(len(groups), squeeze=False)[:, 0]
    for axes, (account, each) in zip(plots, groups.items(), strict=True):
        _draw(axes, ledger, account, each)
        hides = f"{account.mechanism}: hides one {account.unit} ({account.adjacency})"
        heading = hides if ledger.protects(account) else UNBOUNDED
        axes.set_title(wrapped(heading, _WIDTH - 1.2, 9), color=FAINT)
    picture.alt = in_words(picture, *notes)
    return picture


def _groups(ledger: Ledger, account: Account) -> dict[str, tuple[int, "pd.Series[float]"]]:
    """A client of each group with equal accounts, with its epsilons, by the name of the group."""
    course, broken = ledger.course(account).fillna(0.0), ledger.first_open(account)
    alike: dict[object, list[int]] = defaultdict(list)
    histories = sorted(ledger.histories.items())
    rounds = {client: sorted({e.round for e in each}) for client, each in histories}
    for client in rounds:
        values = course[client].loc[rounds[client]]
        alike[*values.items(), broken.get(client)].append(client)
    found = {}
    for client, *others in alike.values():
        values = course[client].loc[rounds[client]]
        end = values.iloc[-1] if len(values) else 0.0
        own = f"ε {number(end)} in protected rounds" if end else "no protected round"
        total = "∞" if client in broken else number(end)
        who = f"client{'s' * bool(others)} {spelled([client, *others])}"
        name, limit = f"{who}: {own}, {total} in all", ledger.ceiling(client, 100)
        if client not in broken and limit is not None and limit < 1:
            name += f"; found of 100: at most {percent(limit)}"
        found[name] = client, values.replace(math.inf, math.nan)
    if len(found) > MOST_LINES:
        return dict(sorted(found.items(), key=lambda each: each[1][1].max()))
    return found


def _legend_inches(groups: int) -> float:
    """Height of the legend of so many groups and the cross, in inches."""
    return 1.2 * inches("\n" * groups)


def _draw(
    axes: Axes,
    ledger: Ledger,
    account: Account,
    groups: dict[str, tuple[int, "pd.Series[float]"]],
) -> None:
    broken = ledger.first_open(account)
    last, cross = 1, None
    for place, (name, (client, epsilons)) in enumerate(groups.items()):
        style: Options = {
            "color": _COLOURS[place % len(_COLOURS)],
            "linestyle": _DASHES[place % len(_DASHES)],
            "marker": _MARKS[place],
            "markersize": 8 - place / 3,  # of equal accounts both marks can be seen
            "markeredgecolor": "white",
            "markevery": (1, math.ceil(len(epsilons) / MOST_DOTS) or 1),
            "clip_on": False,
            "zorder": 2.7,  # above the axis, on which an epsilon of 0 lies
        }
        axes.step([0, *epsilons.index], [0.0, *epsilons], where="post", label=name, **style)
        if client in broken:
            at, red = broken[client], defense_colour("none")
            (cross,) = axes.plot(
                at, epsilons[at], "X", color=red, ms=8, mec="white", zorder=3, clip_on=False
            )
        last = max([last, *epsilons.index])
    label = "ε" if account.composition == "sum" else f"ε at δ = {ledger.delta:g}"
    axes.set(xlim=(0, last + 0.25), xlabel="round", ylabel=label)
    if cross is not None:
        cross.set_label("infinite in all from here on")
    # The names stand above the highest line, so that none runs through them.
    highest = max((e for _, each in groups.values() for e in each if e == e), default=0.0) or 1.0
    top = highest * (1.1 + _legend_inches(len(groups)) / _PLOT)
    ticks = [each for each in MaxNLocator(5).tick_values(0, highest) if each <= 1.1 * highest]
    axes.set(ylim=(0, top), yticks=ticks)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="upper left", labelspacing=0.3, borderaxespad=0.4)
