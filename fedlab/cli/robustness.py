"""The command ``fedlab robustness``."""

from typing import Annotated

import typer

from fedlab.cli.options import RunPath
from fedlab.core.consoles import console
from fedlab.core.errors import BadInput


def robustness(
    folder: RunPath,
    epsilon: Annotated[
        float,
        typer.Option(help="Largest change of a pixel on the scale from 0 to 255, above 0."),
    ] = 8.0,
    iterations: Annotated[
        int, typer.Option(help="Number of steps of PGD and of WITCHcraft, at least 1.")
    ] = 20,
    images: Annotated[int, typer.Option(help="Largest number of test images.")] = 500,
) -> None:
    """Attack the final model of a run: its test accuracy under noise, PGD and WITCHcraft."""
    from fedlab.simulation.federation import Federation

    if not 0 < epsilon <= 255:
        raise BadInput(f"--epsilon is in (0, 255], not {epsilon:g}")
    federation = Federation.resume(folder)
    found = federation.robustness(epsilon=epsilon / 255, iterations=iterations, images=images)
    console.print(str(found), soft_wrap=True)
