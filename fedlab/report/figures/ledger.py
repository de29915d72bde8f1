"""The privacy ledger as a figure: what every client's protected rounds have cost by each round."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fedlab.core.schedule import spell
from fedlab.privacy.accounts import Account
from fedlab.privacy.ledger import Ledger
from fedlab.privacy.release import participations
from fedlab.report.figures.colours import FAINT, INK, defense_colour
from fedlab.report.figures.sheet import NothingToDraw, Picture, Sheet, first_of
from fedlab.report.figures.text_layout import SMALL, TEXT, TITLE, font, line_height
from fedlab.report.tables.ledger import UNBOUNDED
from fedlab.report.tables.numbers import number

# All in inches.
_WIDTH = 7.2
_MARGIN = 0.25
_LEFT = 0.8
_PLOT = 2.4
_BELOW = 0.6  # round numbers, their name, and air

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


def ledger_figure(ledger: Ledger) -> Picture:
    """Epsilon of the protected rounds over the rounds, one plot for each account in use.

    A cross marks the round from which on a client's total is infinite, since it took part without
    the account's protection. Clients that are alike share a line.

    Raises:
        NothingToDraw: If nobody took part in any round yet.
    """
    if not any(ledger.histories.values()):
        raise NothingToDraw("no client has taken part in any round yet")
    title = "What has each client's privacy cost so far?"
    accounts = ledger.accounts
    courses = [_courses(ledger, account) for account in accounts]
    # Legends lie below their plots, where no line can run through them.
    rooms = [_PLOT + _BELOW + len(each) * 1.15 * line_height(SMALL) for each in courses]
    top = _MARGIN + line_height(TITLE) + 0.15
    sheet = Sheet(_WIDTH, top + sum(rooms) + _MARGIN)
    sheet.text(_MARGIN, _MARGIN, title, size=TITLE, bold=True)
    for account, each, room in zip(accounts, courses, rooms, strict=True):
        axes = sheet.axes(_LEFT, top + 0.22, _WIDTH - _LEFT - _MARGIN, _PLOT - 0.22)
        about = (
            f"{account.mechanism}: hides one {account.unit} ({account.adjacency})"
            if ledger.protects(account)
            else UNBOUNDED
        )
        _draw(axes, account, each, title=about, delta=ledger.delta)
        top += room
    named = [each.mechanism if ledger.protects(each) else UNBOUNDED for each in accounts]
    sheet.figure.alt = _in_words(title, named, courses)
    return sheet.figure


def _in_words(
    title: str, names: Sequence[str], courses: Sequence[Mapping[_Course, Sequence[int]]]
) -> str:
    parts = [
        f"{name}, {_name(course, clients)}"
        for name, each in zip(names, courses, strict=True)
        for course, clients in each.items()
    ]
    return f"{title} {first_of(parts)}."


def _name(course: _Course, clients: Sequence[int]) -> str:
    who = f"client{'s' if len(clients) > 1 else ''} {spell(clients)}"
    end = course.epsilons[-1] if course.epsilons else 0.0
    own = f"ε {number(end)} in protected rounds" if end else "no protected round"
    return f"{who}: {own}, {'∞' if course.broken else number(end)} in all"


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
    axes: Axes,
    account: Account,
    courses: Mapping[_Course, Sequence[int]],
    *,
    title: str,
    delta: float,
) -> None:
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
    axes.set_xlim(0, last + 0.25)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("round", color=FAINT, fontsize=TEXT)
    axes.set_ylabel(f"ε at δ = {delta:g}", color=FAINT, fontsize=TEXT)
    axes.set_title(title, loc="left", fontsize=TEXT, color=FAINT)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(
        prop=font(SMALL),
        frameon=False,
        labelcolor=INK,
        loc="upper left",
        bbox_to_anchor=(0, -0.42 / (_PLOT - 0.22)),
        borderaxespad=0,
        borderpad=0,
        labelspacing=0.3,
    )
