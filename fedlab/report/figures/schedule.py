"""Figure of a scenario's schedule: which client does what in which round."""

from matplotlib.patches import Rectangle

from fedlab.report.figures.colours import LINE, defense_colour
from fedlab.report.figures.sheet import (
    TINY,
    Picture,
    first_of,
    ink_on,
    new_picture,
    styled,
    wrapped,
)
from fedlab.report.tables.schedule import ScheduleCell, schedule_grid
from fedlab.scenario.scenario import Scenario

_CELL = 1.3, 0.5
"""Width and height of a cell in inches."""


@styled()
def schedule_figure(scenario: Scenario) -> Picture:
    """Draw the schedule as a grid with rounds across and clients down.

    Neighbouring rounds and clients with equal cells share a column or a row. A cell has the colour
    of its defense and names the role, the attack of the server and the defenses.
    """
    schedule = schedule_grid(scenario)
    rounds = [column.header for column in schedule.columns[1:]]
    clients = [row[0] for row in schedule.rows]
    grid = [row[1:] for row in schedule.rows]
    across, down = len(rounds), len(clients)
    title = f"{scenario.name}: who does what in which round?"
    width = max(5.0, 1.5 + across * _CELL[0])
    figure = new_picture(width, 0.5 + down * _CELL[1], title=title, notes=[schedule.note])
    axes = figure.subplots()
    axes.set(xlim=(0, across), ylim=(down, 0), xlabel="round", ylabel="client")
    across_names, down_names = ([wrapped(e, 1.2) for e in names] for names in (rounds, clients))
    axes.set_xticks([place + 0.5 for place in range(across)], across_names)
    axes.set_yticks([place + 0.5 for place in range(down)], down_names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for row, cells in enumerate(grid):
        for column, cell in enumerate(cells):
            colour = defense_colour("+".join(cell.defenses)) if cell.defenses else "white"
            axes.add_patch(Rectangle((column, row), 1, 1, facecolor=colour, edgecolor=LINE))
            axes.text(
                column + 0.5,
                row + 0.5,
                _text(cell),
                ha="center",
                va="center",
                size=TINY,
                color=ink_on(colour),
            )
    parts = [
        f"clients {who} in rounds {when}: {cell}"
        for who, cells in zip(clients, grid, strict=True)
        for when, cell in zip(rounds, cells, strict=True)
    ]
    figure.alt = f"{title} {first_of(parts)}."
    return figure


def _text(cell: ScheduleCell) -> str:
    role = "honest" + cell.part[1:] if cell.role == "honest" else cell.part
    return "\n".join([role, *cell.defenses])
