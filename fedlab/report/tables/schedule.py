"""The schedule as a table: rounds across, clients down, roles and defenses in the cells."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from fedlab.report.tables.naming import spelled
from fedlab.report.tables.table import Column, ReportTable
from fedlab.report.templates import render
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import NO_PROTECTION

SIGNS = {"honest": "·", "leaking": "leak", "poisoning": "poison"}
"""Role of a client in the text of a cell."""

MOST = 300
"""Largest number of kinds of rounds, and of clients, that are compared."""

MOST_ROUNDS, MOST_CLIENTS = 40, 100
"""Largest number of columns and of rows."""


@dataclass(frozen=True)
class ScheduleCell:
    """Role and defenses of a client in a round.

    Attributes:
        role: Role of the client, a key of ``SIGNS``.
        attacked: True if the server attacks the client's update.
        tampered: True if a malicious server sends the client something else than the global model.
        defenses: Names of the defenses in the order in which they run.
    """

    role: str
    attacked: bool
    tampered: bool
    defenses: tuple[str, ...]

    @property
    def part(self) -> str:
        """The role with a star if it is attacked and an exclamation mark if it is tampered with."""
        return SIGNS[self.role] + "*" * self.attacked + "!" * self.tampered

    def __str__(self) -> str:
        return " ".join([self.part, *self.defenses])

    def __html__(self) -> Markup:
        # Only here: colours need matplotlib, and `fedlab show` prints text.
        from fedlab.report.figures.colours import defense_colour

        colours = {name: defense_colour(name) for name in self.defenses}
        return render("schedule_cell.html", cell=self, colours=colours)


def schedule_grid(scenario: Scenario) -> ReportTable:
    """A scenario's schedule; neighbouring rounds and clients with equal cells are merged.

    Where more than ``MOST_ROUNDS`` columns or ``MOST_CLIENTS`` rows would be left, all rounds or
    clients with equal cells are, and the first so many are shown.
    """
    # Rounds of the same entries have the same cells, and so have clients: one of a kind suffices.
    entries = scenario.schedule
    round_kinds = _kinds(
        range(1, scenario.rounds + 1), lambda each: tuple(each in e.rounds for e in entries)
    )
    client_kinds = _kinds(
        range(scenario.data.clients), lambda each: tuple(each in e.clients for e in entries)
    )
    across, down = (list(dict.fromkeys(k.values())) for k in (round_kinds, client_kinds))
    cut = len(across) > MOST or len(down) > MOST
    across, down = across[:MOST], down[:MOST]
    cells = {(round, who): _cell(scenario, round, who) for round in across for who in down}
    columns = {round: tuple(cells[round, who] for who in down) for round in across}
    lines = {who: tuple(cells[round, who] for round in across) for who in down}
    rounds = _merged(round_kinds, columns, MOST_ROUNDS)
    clients = _merged(client_kinds, lines, MOST_CLIENTS)
    cut = cut or len(rounds) > MOST_ROUNDS or len(clients) > MOST_CLIENTS
    rounds, clients = rounds[:MOST_ROUNDS], clients[:MOST_CLIENTS]
    signs = ["· honest", "* attacked by the server"]
    signs += ["! malicious server"] * bool(scenario.server.malicious)
    return ReportTable(
        f"{scenario.name}: {scenario.rounds} rounds, {scenario.data.clients} clients",
        [
            Column("client \\ round"),
            *(Column(spelled(run), "center", str) for run in rounds),
        ],
        [
            [
                spelled(who),
                *(cells[round_kinds[run[0]], client_kinds[who[0]]] for run in rounds),
            ]
            for who in clients
        ],
        "   ".join(signs)
        + (f"\n{NO_PROTECTION}" if scenario.server.central_dp else "")
        + (
            f"\nOnly the first {len(rounds)} different rounds and {len(clients)} different clients "
            "are shown; all: scenario.toml."
            if cut
            else ""
        ),
        grid=True,
    )


def _kinds(numbers: range, kind: Callable[[int], object]) -> dict[int, int]:
    """The first number of the same kind, by number."""
    first: dict[object, int] = {}
    return {number: first.setdefault(kind(number), number) for number in numbers}


def _merged(
    kinds: Mapping[int, int], cells: Mapping[int, tuple[ScheduleCell, ...]], most: int
) -> list[list[int]]:
    """Join neighbouring numbers with equal cells; all such numbers if more would be left."""
    known = [number for number, kind in kinds.items() if kind in cells]
    groups = [list(group) for _, group in groupby(known, lambda each: cells[kinds[each]])]
    if len(groups) <= most:
        return groups
    alike: dict[tuple[ScheduleCell, ...], list[int]] = defaultdict(list)
    for number in known:
        alike[cells[kinds[number]]].append(number)
    return list(alike.values())


def _cell(scenario: Scenario, round: int, client: int) -> ScheduleCell:
    return ScheduleCell(
        role=scenario.role(round=round, client=client).role,
        attacked=bool(scenario.reconstructions_on(round=round, client=client)),
        tampered=scenario.malicious_attack(round=round, client=client) is not None,
        defenses=tuple(e.name for e in scenario.defenses_on(round=round, client=client)),
    )
