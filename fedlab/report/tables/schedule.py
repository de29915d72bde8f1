"""The schedule as a grid: rounds across, clients down, roles and defenses in the cells."""

from rich.table import Table

from fedlab.report.tables.schedule_cells import schedule_cells
from fedlab.scenario.scenario import Scenario


def schedule_grid(scenario: Scenario) -> Table:
    """A scenario's schedule; neighbouring rounds and clients with equal cells are drawn as one.

    A star marks a cell that the server attacks, an exclamation mark one whose client is sent what a
    malicious server tampered with.
    """
    schedule = schedule_cells(scenario)
    table = Table(
        title=f"{scenario.name}: {scenario.rounds} rounds, {scenario.data.clients} clients",
        caption="   ".join(["· honest", *schedule.marks])
        + (f"\n{schedule.remark}" if schedule.remark else ""),
        show_lines=True,
    )
    table.add_column("client \\ round", justify="right")
    for rounds in schedule.rounds:
        table.add_column(rounds, justify="center")
    for clients, cells in zip(schedule.clients, schedule.cells, strict=True):
        table.add_row(clients, *map(str, cells))
    return table
