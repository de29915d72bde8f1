"""Figure of the privacy ledger: epsilon of each client's protected rounds against the round."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fedlab.core.schedule import spell
from fedlab.privacy.accounts import Account
from fedlab.privacy.ledger import Ledger
from fedlab.privacy.release import participations
from fedlab.report.figures.colours import FAINT, defense_colour
from fedlab.report.figures.sheet import (
    NothingToDraw,
    Picture,
    first_of,
    inches,
    new_picture,
    styled,
    wrapped,
)
from fedlab.report.tables.ledger import UNBOUNDED
from fedlab.report.tables.numbers import number

_WIDTH, _PLOT = 7.2, 2.4
"""Width of the figure and height of a plot in inches."""

_DASHES = ("-", "--", "-.", ":")
"""Line styles of groups of clients, which share the colour of the mechanism."""


@dataclass(frozen=True)
class _Course:
    """Course of a client's account.

    Attributes:
        rounds: Rounds in which the client took part.
        epsilons: Epsilon of its protected rounds, after each of them.
        broken: First round after which its total is infinite.
    """

    rounds: tuple[int, ...]
    epsilons: tuple[float, ...]
    broken: int | None


@styled()
def ledger_figure(ledger: Ledger) -> Picture:
    """Draw epsilon of the protected rounds, one plot for each account in use.

    A cross marks the round from which on a client's total is infinite, since it took part without
    the account's protection. Clients with equal accounts share a line.

    Raises:
        NothingToDraw: If no client took part in any round yet.
    """
    if not any(ledger.histories.values()):
        raise NothingToDraw("no client has taken part in any round yet")
    title = "What has each client's privacy cost so far?"
    accounts = ledger.accounts
    courses = [_courses(ledger, account) for account in accounts]
    named = [each.mechanism if ledger.protects(each) else UNBOUNDED for each in accounts]
    legends = ["\n".join(_name(*each) for each in of.items()) for of in courses]
    height = sum(_PLOT + 0.6 + 1.2 * inches(legend) for legend in legends)
    picture = new_picture(_WIDTH, height, title=title)
    plots = picture.subplots(len(accounts), squeeze=False)[:, 0]
    for axes, account, each, name in zip(plots, accounts, courses, named, strict=True):
        hides = f": hides one {account.unit} ({account.adjacency})"
        _draw(axes, account, each)
        axes.set_ylabel(f"ε at δ = {ledger.delta:g}")
        heading = name + hides * ledger.protects(account)
        axes.set_title(wrapped(heading, _WIDTH - 1.2, 9), color=FAINT)
    parts = [
        f"{name}, {_name(course, clients)}"
        for name, each in zip(named, courses, strict=True)
        for course, clients in each.items()
    ]
    picture.alt = f"{title} {first_of(parts)}."
    return picture


def _name(course: _Course, clients: Sequence[int]) -> str:
    who = f"client{'s' if len(clients) > 1 else ''} {spell(clients)}"
    end = course.epsilons[-1] if course.epsilons else 0.0
    own = f"ε {number(end)} in protected rounds" if end else "no protected round"
    return f"{who}: {own}, {'∞' if course.broken else number(end)} in all"


def _courses(ledger: Ledger, account: Account) -> Mapping[_Course, Sequence[int]]:
    courses: dict[_Course, list[int]] = defaultdict(list)
    for client, history in sorted(ledger.histories.items()):
        parts = participations(history)
        epsilons = []
        for index in range(len(parts)):
            upto = tuple(entry for part in parts[: index + 1] for entry in part)
            # The ledger of a run folder looks epsilons up, where an account would compute them.
            value = replace(ledger, histories={client: upto}).protected(client, account)
            epsilons.append(0.0 if value is None else value)
        broken = next((part[0].round for part in parts if not account.covers(part)), None)
        rounds = tuple(part[0].round for part in parts)
        courses[_Course(rounds, tuple(epsilons), broken)].append(client)
    return courses


def _draw(axes: Axes, account: Account, courses: Mapping[_Course, Sequence[int]]) -> None:
    colour = defense_colour(account.mechanism)
    for place, (course, clients) in enumerate(courses.items()):
        finite = [value if math.isfinite(value) else math.nan for value in course.epsilons]
        axes.step(
            (0, *course.rounds),
            (0.0, *finite),
            where="post",
            color=colour,
            linestyle=_DASHES[place % len(_DASHES)],
            label=_name(course, clients),
        )
        axes.plot(course.rounds, finite, linestyle="", marker=".", color=colour)
        if course.broken:
            value = finite[course.rounds.index(course.broken)]
            axes.plot(
                course.broken,
                value,
                marker="x",
                color=defense_colour("none"),
                zorder=3,
                clip_on=False,
            )
    last = max((round for course in courses for round in course.rounds), default=1)
    axes.set(xlim=(0, last + 0.25), xlabel="round")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    # Below the plot no line can run through the names.
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.42 / _PLOT), labelspacing=0.3)
