"""The schedule as a table: rounds across, clients down, roles and defenses in the cells."""

from collections.abc import Callable
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
"""Largest number of rows and of columns."""


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
    # Rounds of the same entries have the same cells, and so have clients: one of each run suffices.
    entries = scenario.schedule
    rounds = _merged(
        [[round] for round in range(1, scenario.rounds + 1)],
        lambda round: [round in each.rounds for each in entries],
    )
    clients = _merged(
        [[client] for client in range(scenario.data.clients)],
        lambda client: [client in each.clients for each in entries],
    )
    cut = len(rounds) > MOST or len(clients) > MOST
    rounds, clients = rounds[:MOST], clients[:MOST]
    cells = {(run[0], who[0]): _cell(scenario, run[0], who[0]) for run in rounds for who in clients}
    rounds = _merged(rounds, lambda round: [cells[round, who[0]] for who in clients])
    clients = _merged(clients, lambda client: [cells[run[0], client] for run in rounds])
    signs = ["· honest", "* attacked by the server"]
    signs += ["! malicious server"] * bool(scenario.server.malicious)
    return ReportTable(
        f"{scenario.name}: {scenario.rounds} rounds, {scenario.data.clients} clients",
        [
            Column("client \\ round"),
            *(Column(spelled(run), "center", str) for run in rounds),
        ],
        [[spelled(who), *(cells[run[0], who[0]] for run in rounds)] for who in clients],
        "   ".join(signs)
        + (f"\n{NO_PROTECTION}" if scenario.server.central_dp else "")
        + (f"\nOnly the first {MOST} different rounds and clients are shown." if cut else ""),
        grid=True,
    )


def _merged(runs: list[list[int]], kind: Callable[[int], object]) -> list[list[int]]:
    """Join neighbouring runs of numbers whose first numbers are of the same kind."""
    groups = groupby(runs, lambda run: kind(run[0]))
    return [[number for run in group for number in run] for _, group in groups]


def _cell(scenario: Scenario, round: int, client: int) -> ScheduleCell:
    return ScheduleCell(
        role=scenario.role(round=round, client=client).role,
        attacked=bool(scenario.reconstructions_on(round=round, client=client)),
        tampered=scenario.malicious_attack(round=round, client=client) is not None,
        defenses=tuple(e.name for e in scenario.defenses_on(round=round, client=client)),
    )
