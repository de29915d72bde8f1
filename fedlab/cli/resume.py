"""The command ``fedlab resume``."""

from fedlab.cli.options import RunPath
from fedlab.core.consoles import console
from fedlab.core.errors import BadInput


def resume(folder: RunPath) -> None:
    """Continue a run after its last finished round, on the engine that it was started on.

    This runs the code that the scenario of the run names by package.module:Name.
    """
    from fedlab.core.signals import raise_on_signals
    from fedlab.report.tables.terminal import report
    from fedlab.results.folder import RunFolder
    from fedlab.simulation.federation import NO_NODES, Federation

    scenario = RunFolder.open(folder).scenario
    if scenario.engine.deployed:
        raise BadInput(NO_NODES)
    with raise_on_signals():
        federation = Federation.resume(folder, on_round=lambda done: console.print(str(done)))
        if federation.round < scenario.rounds:
            console.print(f"going on after round {federation.round} of {scenario.rounds}")
        else:
            console.print(f"all {scenario.rounds} rounds are over already")
        federation.run()
    report(folder, console)
