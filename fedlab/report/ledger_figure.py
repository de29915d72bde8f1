"""The privacy ledger as a figure: what every client's protected rounds have cost by each round."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedlab.privacy.accounts import Account
from fedlab.privacy.ledger import Ledger
from fedlab.privacy.spending import participations
from fedlab.report.colours import FAINT, INK, LINE, defense_colour
from fedlab.report.figures import Picture
from fedlab.report.numbers import number
from fedlab.schedule import spell

_DASHES = ("-", "--", "-.", ":")
"""Groups of clients in the colour of one defense."""


@dataclass(frozen=True)
class _Course:
    """An account of a client as it went.

    Attributes:
        rounds: In which it took part.
        epsilons: Of its protected rounds, after each of them.
        broken: The first round after which its total is infinite.
    """

    rounds: tuple[int, ...]
    epsilons: tuple[float, ...]
    broken: int | None


def ledger_figure(ledger: Ledger) -> Figure:
    """Epsilon of the protected rounds over the rounds, one plot for each account in use.

    A cross marks the round from which on a client's total is infinite, since it took part without
    the account's protection. Clients that are alike share a line.

    Raises:
        ValueError: If nobody took part in any round yet.
    """
    if not any(ledger.histories.values()):
        raise ValueError("no client has taken part in any round yet")
    accounts = ledger.accounts
    figure = Picture(figsize=(7.2, 0.6 + 3.0 * len(accounts)), layout="constrained")
    figure.suptitle(
        "What has each client's privacy cost so far?", x=0.02, ha="left", color=INK, weight="bold"
    )
    for place, account in enumerate(accounts):
        axes = figure.add_subplot(len(accounts), 1, place + 1)
        _draw(axes, account, _courses(ledger, account), delta=ledger.delta)
    return figure


def _courses(ledger: Ledger, account: Account) -> Mapping[_Course, Sequence[int]]:
    courses: dict[_Course, list[int]] = defaultdict(list)
    for client, history in sorted(ledger.histories.items()):
        rounds, epsilons, broken = [], [], None
        for index, part in enumerate(parts := participations(history)):
            upto = tuple(entry for each in parts[: index + 1] for entry in each)
            value = account.epsilon(upto, accountant=ledger.accountant, delta=ledger.delta)
            rounds.append(part[0].round)
            epsilons.append(0.0 if value is None else value)
            if broken is None and not account.covers(part):
                broken = part[0].round
        courses[_Course(tuple(rounds), tuple(epsilons), broken)].append(client)
    return courses


def _draw(
    axes: Axes, account: Account, courses: Mapping[_Course, Sequence[int]], *, delta: float
) -> None:
    colour = defense_colour(account.mechanism)
    for place, (course, clients) in enumerate(courses.items()):
        who = f"client{'s' if len(clients) > 1 else ''} {spell(clients)}"
        end = course.epsilons[-1] if course.epsilons else 0.0
        own = f"ε {number(end)} in protected rounds" if end else "no protected round"
        total = "∞" if course.broken else number(end)
        finite = [value if math.isfinite(value) else math.nan for value in course.epsilons]
        axes.step(
            (0, *course.rounds),
            (0.0, *finite),
            where="post",
            color=colour,
            linestyle=_DASHES[place % len(_DASHES)],
            label=f"{who}: {own}, {total} in all",
        )
        axes.plot(course.rounds, finite, linestyle="", marker=".", color=colour)
        if course.broken:
            value = finite[course.rounds.index(course.broken)]
            axes.plot(course.broken, value, marker="x", color=defense_colour("none"), zorder=3)
    last = max((round for course in courses for round in course.rounds), default=1)
    axes.set_xlim(0, last + 0.25)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("round", color=FAINT)
    axes.set_ylabel(f"ε at δ = {delta:g}", color=FAINT)
    axes.set_title(
        f"{account.mechanism}: hides one {account.unit} ({account.adjacency})",
        loc="left",
        fontsize=9,
        color=FAINT,
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.tick_params(colors=FAINT)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(LINE)
    axes.legend(fontsize=8, frameon=False, labelcolor=INK, loc="upper left")
