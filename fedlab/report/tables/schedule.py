"""The schedule as a table: rounds across, clients down, roles and defenses in the cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from fedlab.core.schedule import spell
from fedlab.report.tables.table import Column, ReportTable
from fedlab.report.templates import render
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import NO_PROTECTION

SIGNS = {"honest": "·", "leaking": "leak", "poisoning": "poison"}
"""Role of a client in the text of a cell."""


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
    """A scenario's schedule; neighbouring rounds and clients with equal cells are merged."""

    def column_at(round: int) -> list[ScheduleCell]:
        return [_cell(scenario, round, client) for client in range(scenario.data.clients)]

    grid = [column_at(round) for round in range(1, scenario.rounds + 1)]
    rounds = _runs(grid)
    columns = [grid[run[0]] for run in rounds]
    clients = _runs(list(zip(*columns, strict=True)))
    signs = ["· honest", "* attacked by the server"]
    signs += ["! malicious server"] * bool(scenario.server.malicious)
    return ReportTable(
        f"{scenario.name}: {scenario.rounds} rounds, {scenario.data.clients} clients",
        [
            Column("client \\ round"),
            *(Column(spell(place + 1 for place in run), "center", str) for run in rounds),
        ],
        [[spell(run), *(column[run[0]] for column in columns)] for run in clients],
        "   ".join(signs) + (f"\n{NO_PROTECTION}" if scenario.server.central_dp else ""),
        grid=True,
    )


def _runs(items: Sequence[object]) -> list[list[int]]:
    """Group the places of equal neighbours."""
    return [list(group) for _, group in groupby(range(len(items)), lambda place: items[place])]


def _cell(scenario: Scenario, round: int, client: int) -> ScheduleCell:
    return ScheduleCell(
        role=scenario.role(round=round, client=client).role,
        attacked=bool(scenario.reconstructions_on(round=round, client=client)),
        tampered=scenario.malicious_attack(round=round, client=client) is not None,
        defenses=tuple(e.name for e in scenario.defenses_on(round=round, client=client)),
    )
