"""A scenario in HTML: its schedule as a table, and at a glance what it is."""

from markupsafe import Markup

from fedlab.report.figures.colours import defense_colour
from fedlab.report.html.tables import facts_table, html_table
from fedlab.report.tables.schedule_cells import Cell, schedule_cells
from fedlab.scenario.scenario import Scenario


def schedule_table(scenario: Scenario) -> Markup:
    """Rounds across, clients down; each defense beside a square of its colour."""
    schedule = schedule_cells(scenario)
    return html_table(
        ["client \\ round", *schedule.rounds],
        [
            [clients, *map(_drawn, cells)]
            for clients, cells in zip(schedule.clients, schedule.cells, strict=True)
        ],
        caption=f"Who does what: {scenario.rounds} rounds, {scenario.data.clients} clients",
        note="\n".join([*schedule.marks, schedule.remark]),
    )


def scenario_html(scenario: Scenario) -> str:
    """What an experiment is, for a notebook."""
    data, training, server = scenario.data, scenario.training, scenario.server
    width = f", width {scenario.model.width}" if scenario.model.width else ""
    norm = f", {scenario.model.norm} norm" if scenario.model.norm else ""
    momentum = f", momentum {training.momentum:g}" if training.momentum else ""
    facts = [
        ("data", f"{data.source}, {data.partition} over {data.clients} clients"),
        ("model", f"{scenario.model.name}{width}{norm}"),
        (
            "training",
            f"{training.epochs} local epochs, batches of {training.batch_size}, "
            f"learning rate {training.lr:g}{momentum}",
        ),
        ("server", server.strategy + (f", {server.cohort} clients a round" * bool(server.cohort))),
        ("seed", scenario.seed),
    ]
    return str(
        Markup("<div><p><strong>{}</strong></p>{}{}</div>").format(
            scenario.name, facts_table(facts), schedule_table(scenario)
        )
    )


def _drawn(cell: Cell) -> Markup:
    if cell.role == "honest":
        part = Markup('<span style="opacity:.75">honest{}</span>').format(cell.signs)
    else:
        part = Markup("<strong>{}</strong>").format(cell.part)
    names = [
        Markup('<span style="white-space:nowrap"><span style="color:{}">■</span> {}</span>').format(
            defense_colour(name), name
        )
        for name in cell.defenses
    ]
    return Markup("<br>").join([part, *names])
