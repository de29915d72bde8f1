"""The command ``fedlab show``."""

from fedlab.cli.options import Overrides, ScenarioName
from fedlab.core.consoles import console


def show(scenario: ScenarioName, overrides: Overrides = None) -> None:
    """Print the schedule of a scenario, and check everything that can be checked before a run.

    Rounds go across and clients down; the cells hold roles and defenses. A scenario that cannot run
    here ends with exit code 2. Code that a scenario names by package.module:Name is not run, and
    nothing is downloaded.
    """
    from fedlab.core.plugins import looking
    from fedlab.report.tables.schedule import schedule_grid
    from fedlab.scenario.scenario import Scenario

    with looking():
        chosen = Scenario.load(scenario, overrides or [])
        console.print(schedule_grid(chosen))
    if chosen.data.download:
        console.print("not checked further, since data.download is true")
        return

    from fedlab.simulation.federation import Federation
    from fedlab.simulation.foreign_plugins import named_plugins

    if named := named_plugins(chosen):
        console.print(f"not checked further, since it would run {', '.join(named)}")
    else:
        Federation(chosen.changed(trackers=()))
