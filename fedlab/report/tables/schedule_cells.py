"""What stands in the cells of a schedule, however it is drawn."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby

from fedlab.core.schedule import spell
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import NO_PROTECTION

ROLES = {"honest": "·", "leaking": "leak", "poisoning": "poison"}


@dataclass(frozen=True)
class Cell:
    """What a client is and does in a round.

    Attributes:
        role: A key of ``ROLES``.
        attacked: Whether the server attacks what it sends.
        tampered: Whether a malicious server sends it something else.
        defenses: Names, in the order in which they run.
    """

    role: str
    attacked: bool
    tampered: bool
    defenses: tuple[str, ...]

    @property
    def signs(self) -> str:
        """What the server does to it."""
        return "*" * self.attacked + "!" * self.tampered

    @property
    def part(self) -> str:
        """Its role with its marks."""
        return ROLES[self.role] + self.signs

    def __str__(self) -> str:
        return " ".join([self.part, *self.defenses])


@dataclass(frozen=True)
class ScheduleCells:
    """A schedule in as few rows and columns as it takes.

    Attributes:
        rounds: Of each column, as the schedule's language spells them.
        clients: Of each row, likewise.
        cells: A row for each group of clients, a column for each group of rounds.
        marks: What the signs in the cells mean.
        remark: What has to stand beside it; empty where nothing has.
    """

    rounds: tuple[str, ...]
    clients: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]
    marks: tuple[str, ...]
    remark: str


def schedule_cells(scenario: Scenario) -> ScheduleCells:
    """A scenario's schedule; neighbouring rounds and clients with equal cells stand together."""

    def at(round: int, client: int) -> Cell:
        return _cell(scenario, round, client)

    clients = range(scenario.data.clients)
    columns = _together(
        range(1, scenario.rounds + 1), lambda round: tuple(at(round, c) for c in clients)
    )
    first_rounds = [rounds[0] for rounds in columns]
    lines = _together(clients, lambda client: tuple(at(round, client) for round in first_rounds))
    return ScheduleCells(
        rounds=tuple(map(spell, columns)),
        clients=tuple(map(spell, lines)),
        cells=tuple(tuple(at(round, line[0]) for round in first_rounds) for line in lines),
        marks=(
            "* attacked by the server",
            *(["! malicious server"] if scenario.server.malicious else []),
        ),
        remark=NO_PROTECTION if scenario.server.central_dp else "",
    )


def _together(numbers: Iterable[int], key: Callable[[int], tuple[Cell, ...]]) -> list[list[int]]:
    return [list(group) for _, group in groupby(numbers, key)]


def _cell(scenario: Scenario, round: int, client: int) -> Cell:
    return Cell(
        role=scenario.role(round=round, client=client).role,
        attacked=bool(scenario.reconstructions_on(round=round, client=client)),
        tampered=scenario.malicious_attack(round=round, client=client) is not None,
        defenses=tuple(e.name for e in scenario.defenses_on(round=round, client=client)),
    )
