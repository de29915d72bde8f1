"""The command ``fedlab show``."""

from fedlab.cli.options import Overrides, ScenarioName
from fedlab.core.consoles import console


def show(scenario: ScenarioName, overrides: Overrides = None) -> None:
    """Print the schedule of a scenario: rounds across, clients down, roles and defenses."""
    from fedlab.report.tables.schedule import schedule_grid
    from fedlab.scenario.scenario import Scenario

    console.print(schedule_grid(Scenario.load(scenario, overrides or [])))
