"""The command ``fedlab reconstruct``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from fedlab.cli import options
from fedlab.core.consoles import console
from fedlab.core.errors import BadInput


def reconstruct(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Folder of a run, or of captures of fedlab.observe. Needed."),
    ] = None,
    presets: options.ListPresets = False,
    round: Annotated[
        int | None, typer.Option(help="Round to attack, counted from 1. Needed without --unmix.")
    ] = None,
    client: Annotated[
        int | None, typer.Option(help="Client to attack, counted from 0. Needed.")
    ] = None,
    preset: options.Preset = None,
    labels: Annotated[
        str, typer.Option(help="Labels: known to the attacker, or inferred by it.")
    ] = "known",
    order: Annotated[
        Literal["known", "sequential", "average"],
        typer.Option(
            help="Order of the images in local steps: known to the attacker, assumed equal in "
            "every epoch, or averaged over."
        ),
    ] = "sequential",
    adapt: Annotated[
        bool, typer.Option(help="Tune the attack for the defense of the round, or do not.")
    ] = True,
    unmix: Annotated[
        str | None,
        typer.Option(
            help="Recover images that DP-InstaHide mixed, from several rounds: all or 3-9."
        ),
    ] = None,
    rounds_jointly: Annotated[
        int | None,
        typer.Option(
            help="Attack this many rounds of the same images jointly: this one and earlier ones. "
            "Default: 1."
        ),
    ] = None,
    local_steps: Annotated[
        Literal["unroll", "gradient", "surrogate"] | None,
        typer.Option(
            help="Explain several local steps by simulating each, by one gradient at the global "
            "weights, or by one at a point towards the client's. Default: unroll."
        ),
    ] = None,
    iterations: options.Iterations = None,
    tv: options.TotalVariation = None,
    lr: options.StepSize = None,
    restarts: options.Restarts = None,
    workers: options.Workers = None,
    seconds: options.Seconds = None,
    tuning_seconds: options.TuningSeconds = None,
    preview: options.Preview = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="PNG, PDF or SVG file to write. Default: a PNG file in the run's folder "
            "reconstructions."
        ),
    ] = None,
) -> None:
    """Reconstruct the images behind a reply that a run kept, and score them.

    This runs the code that the scenario of the run names by package.module:Name.
    For captures of fedlab.observe and for files of any federation there is
    `fedlab reconstruct-files`, which this command calls for a folder of captures.
    """
    if presets:
        from fedlab.cli.list import presets_table

        console.print(presets_table())
        return
    if folder is None:
        raise BadInput(
            "name the folder of a run, or use fedlab reconstruct-files with --global, --reply and "
            "--model"
        )
    if client is None or (round is None and unmix is None):
        raise BadInput("name the reply to attack: --round and --client")
    if labels not in ("known", "inferred"):
        raise BadInput('labels of a run are "known" or "inferred"')
    from fedlab.cli.pictures import prepare_picture, preview_writer
    from fedlab.report.figures.reconstructions import save
    from fedlab.report.tables.terminal import attack_lines, leak_table
    from fedlab.simulation.federation import Federation

    name = f"unmixed-client-{client:05d}" if unmix else f"round-{round:04d}-client-{client:05d}"
    target = prepare_picture(out or folder / "reconstructions" / f"{name}.png")
    federation = Federation.resume(folder)
    watch = preview_writer(preview)
    settings: dict[str, object] = {
        "preset": preset,
        "iterations": iterations,
        "tv": tv,
        "lr": lr,
        "restarts": restarts,
        "seconds": seconds,
        "tuning_seconds": tuning_seconds,
        "workers": workers,
        "labels": labels,
        "order": order,
        "adapt": adapt,
        "rounds_jointly": rounds_jointly,
        "local_steps": local_steps,
    }
    if unmix is not None:
        found = federation.unmix(client=client, rounds=unmix, watch=watch, **settings)
        console.print(str(found))
        save(found.show(), target)
    else:
        leak = federation.reconstruct(round=round or 0, client=client, watch=watch, **settings)
        console.print(leak_table(leak))
        first = leak.rows[0]
        server = federation.scenario.malicious_attack(round=first.round, client=first.client)
        for line in attack_lines(leak, None if server is None else server.attack):
            console.print(line, soft_wrap=True)
        save(leak.show(), target)
    console.print(f"picture: {target}", soft_wrap=True)
