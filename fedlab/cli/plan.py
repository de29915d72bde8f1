"""The command ``fedlab plan``."""

from typing import Annotated

import typer

from fedlab.cli import completion
from fedlab.cli.options import Overrides, ScenarioName
from fedlab.core.consoles import console


def plan(
    scenario: ScenarioName,
    overrides: Overrides = None,
    defenses: Annotated[
        str | None,
        typer.Option(
            help="Defenses on all rounds and clients, in place of the scenario's own, joined by "
            "plus signs, with settings after colons: dp-sgd:clipping_norm=0.5+pruning.",
            autocompletion=completion.complete_defenses,
        ),
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Epsilon of all rounds together that clients may reach: the noise that it needs "
            "is solved for. Default: the scenario's own noise or target.",
        ),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            help="Noise multipliers of the table of noise against epsilon, separated by commas. "
            "Default: five from 0.25 to 4, and those around the target."
        ),
    ] = None,
    time: Annotated[
        bool, typer.Option(help="Try one client of each kind to estimate time and memory.")
    ] = True,
) -> None:
    """Print what a scenario will cost in privacy, time and memory, before anything runs.

    Privacy: noise multiplier, sample rate, steps, participations, epsilon and ceiling of each group
    of clients, and other noise against epsilon. A scenario that names code by package.module:Name
    runs that code.
    """
    from fedlab.comparison.parsing import arm_of
    from fedlab.core.errors import BadInput
    from fedlab.report.tables.plan import noise_against_epsilon, plan_table
    from fedlab.scenario.scenario import Scenario
    from fedlab.simulation import budget

    chosen = Scenario.load(scenario, overrides or [])
    if defenses is not None:
        chosen = chosen.changed(defenses=arm_of(defenses).entries(chosen))
    if epsilon is not None:
        if epsilon == 0:
            raise BadInput("no noise reaches an epsilon of 0: choose one above it")
        chosen = budget.with_target(chosen, epsilon)
    numbers = None if noise is None else _numbers(noise)
    found = budget.plan(chosen)
    for solved in found.solved:
        console.print(solved, soft_wrap=True)
    console.print(plan_table(found))
    if budget.adds_noise(chosen):
        numbers = numbers or budget.noise_around(chosen, found.scenario)
        console.print(noise_against_epsilon(budget.noise_table(chosen, numbers, found.federated)))
    if time:
        cost = budget.measure(found)
        attacks = (
            f", without the attacks on {cost.attacked} updates, which may take far longer"
        ) * bool(cost.attacked)
        console.print(
            f"time: about {_duration(cost.seconds)} in {cost.processes} process"
            f"{'es' * (cost.processes > 1)}{attacks}; memory: about "
            f"{cost.memory * cost.processes / 2**30:.1f} GiB",
            soft_wrap=True,
        )


def _numbers(text: str) -> list[float]:
    from fedlab.core.errors import BadInput

    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 < each < float("inf") for each in found):
        raise BadInput(f'noise "{text}" must be numbers above 0, separated by commas: 0.5,1,2')
    return found


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
