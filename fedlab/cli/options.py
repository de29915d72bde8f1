"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from fedlab.cli import completion

ScenarioName = Annotated[
    str,
    typer.Argument(
        help="Name of a scenario from `fedlab list`, or path of a TOML file.",
        autocompletion=completion.complete_scenario,
    ),
]
RunPath = Annotated[Path, typer.Argument(help="Folder of a run.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Replace a setting of the scenario, such as training.lr=0.05 or "
        "roles.0.batch_size=4. May be given several times.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="Device: cpu, cuda, cuda:1 and so on, or auto for a GPU if there is one. "
        "Default: the scenario's engine.device."
    ),
]

Preset = Annotated[
    str | None,
    typer.Option(
        help="Name of the attack, from `fedlab list presets`. Default: that of a scenario's "
        "[[reconstructions]].",
        autocompletion=completion.complete_presets,
    ),
]
Iterations = Annotated[
    int | None,
    typer.Option(min=1, help="Number of optimisation steps per restart. Default: the preset's."),
]
TotalVariation = Annotated[
    float | None,
    typer.Option(min=0, help="Weight of the total variation prior. Default: the preset's."),
]
StepSize = Annotated[
    float | None,
    typer.Option(help="Step size of the attack in pixels, above 0. Default: the preset's."),
]
Restarts = Annotated[
    int | None,
    typer.Option(min=1, help="Number of random starting points. Default: the preset's."),
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Number of restarts that run in parallel. Default: 1.")
]
Seconds = Annotated[
    float | None,
    typer.Option(help="Time budget of all restarts together, in seconds. Default: no limit."),
]
TuningSeconds = Annotated[
    float | None,
    typer.Option(
        help="Time that the preset auto spends on surrogate victims, in seconds. Default: 14 "
        "iterations for each one of the attack."
    ),
]
Preview = Annotated[
    Path | None,
    typer.Option(help="PNG file with the images so far, rewritten during the attack."),
]
ListPresets = Annotated[
    bool, typer.Option("--list", help="List the attacks by name instead of running one.")
]
PictureOut = Annotated[
    Path | None,
    typer.Option(
        help="PNG, PDF or SVG file to write. Default: rebuilt.png, or a PNG file in the folder's "
        "folder reconstructions."
    ),
]
