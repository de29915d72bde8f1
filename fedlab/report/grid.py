"""The schedule as a grid: rounds across, clients down, roles and defenses in the cells."""

from collections.abc import Callable, Iterable
from itertools import groupby

from rich.table import Table

from fedlab.scenario import Scenario
from fedlab.scenario_tables import NO_PROTECTION
from fedlab.schedule import spell

ROLES = {"honest": "·", "leaking": "leak", "poisoning": "poison"}


def schedule_grid(scenario: Scenario) -> Table:
    """A scenario's schedule; neighbouring rounds and clients with equal cells are drawn as one.

    A star marks a cell that the server attacks, an exclamation mark one whose client is sent what a
    malicious server tampered with.
    """
    columns = _together(
        range(1, scenario.rounds + 1),
        lambda round: tuple(_cell(scenario, round, c) for c in range(scenario.data.clients)),
    )
    first_rounds = [rounds[0] for rounds in columns]
    lines = _together(
        range(scenario.data.clients),
        lambda client: tuple(_cell(scenario, round, client) for round in first_rounds),
    )
    table = Table(
        title=f"{scenario.name}: {scenario.rounds} rounds, {scenario.data.clients} clients",
        caption="· honest   * attacked by the server"
        + ("   ! malicious server" if scenario.server.malicious else "")
        + (f"\n{NO_PROTECTION}" if scenario.server.central_dp else ""),
        show_lines=True,
    )
    table.add_column("client \\ round", justify="right")
    for rounds in columns:
        table.add_column(spell(rounds), justify="center")
    for clients in lines:
        cells = [_cell(scenario, round, clients[0]) for round in first_rounds]
        table.add_row(spell(clients), *cells)
    return table


def _together(numbers: Iterable[int], key: Callable[[int], tuple[str, ...]]) -> list[list[int]]:
    return [list(group) for _, group in groupby(numbers, key)]


def _cell(scenario: Scenario, round: int, client: int) -> str:
    role = ROLES[scenario.role(round=round, client=client).role]
    names = [entry.name for entry in scenario.defenses_on(round=round, client=client)]
    star = "*" if scenario.reconstructions_on(round=round, client=client) else ""
    tampered = "!" if scenario.malice(round=round, client=client) else ""
    return " ".join([role + star + tampered, *names])
