"""The command ``fedlab reconstruct``: attack what a run kept, or files from anywhere."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import click
import typer
from click.core import ParameterSource
from rich.table import Table

from fedlab.core.consoles import console
from fedlab.core.errors import BadInput

if TYPE_CHECKING:  # torch takes a second to load, which `--help` should not cost
    from attacks.reconstruction import AttackSettings
    from attacks.reconstruction.watch import Progress
    from fedlab.integrations.update_files import Update

RUN, FILES = "A run", "Files from anywhere"


def reconstruct(
    folder: Annotated[
        Path | None, typer.Argument(help="The folder of a run; left out for files.")
    ] = None,
    presets: Annotated[bool, typer.Option("--list", help="List the attacks by name.")] = False,
    preset: Annotated[str, typer.Option(help="Name of the attack.")] = "inverting-gradients",
    labels: Annotated[
        str | None,
        typer.Option(
            help="known (of a run, unless given), inferred (of files), or classes such as 3,5."
        ),
    ] = None,
    iterations: Annotated[int | None, typer.Option(min=1)] = None,
    tv: Annotated[float | None, typer.Option(min=0, help="Weight of total variation.")] = None,
    lr: Annotated[float | None, typer.Option(help="Step size of the attack.")] = None,
    restarts: Annotated[int | None, typer.Option(min=1)] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Restarts at the same time.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Time budget, for all restarts.")] = None,
    preview: Annotated[Path | None, typer.Option(help="PNG kept up to date meanwhile.")] = None,
    out: Annotated[Path | None, typer.Option(help="PNG to write.")] = None,
    round: Annotated[
        int | None, typer.Option(help="Round, counted from 1.", rich_help_panel=RUN)
    ] = None,
    client: Annotated[
        int | None, typer.Option(help="Partition id, counted from 0.", rich_help_panel=RUN)
    ] = None,
    order: Annotated[
        Literal["known", "sequential", "average"],
        typer.Option(help="Of the images in local steps.", rich_help_panel=RUN),
    ] = "sequential",
    adapt: Annotated[
        bool, typer.Option(help="Re-tune for the defense that is on.", rich_help_panel=RUN)
    ] = True,
    unmix: Annotated[
        str | None,
        typer.Option(help="Un-mix DP-InstaHide over these rounds: all, 3-9.", rich_help_panel=RUN),
    ] = None,
    before: Annotated[
        Path | None,
        typer.Option(
            "--global", help="safetensors of the global state_dict.", rich_help_panel=FILES
        ),
    ] = None,
    reply: Annotated[
        Path | None,
        typer.Option(
            help="safetensors of the client's weights or gradient.", rich_help_panel=FILES
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="package.module:make(shape, classes), or a name.", rich_help_panel=FILES),
    ] = None,
    shape: Annotated[str, typer.Option(help="Of an image.", rich_help_panel=FILES)] = "3x32x32",
    classes: Annotated[int, typer.Option(min=2, rich_help_panel=FILES)] = 10,
    kind: Annotated[
        Literal["weights", "difference", "gradient"],
        typer.Option(
            help="Of the reply; difference: weights less the global ones.", rich_help_panel=FILES
        ),
    ] = "weights",
    num_images: Annotated[
        int, typer.Option(min=1, help="Images behind the reply.", rich_help_panel=FILES)
    ] = 1,
    local_lr: Annotated[
        float | None, typer.Option(help="Of the client's SGD.", rich_help_panel=FILES)
    ] = None,
    local_momentum: Annotated[float, typer.Option(min=0, rich_help_panel=FILES)] = 0.0,
    local_epochs: Annotated[int, typer.Option(min=1, rich_help_panel=FILES)] = 1,
    local_batch: Annotated[
        int | None, typer.Option(min=1, help="All images unless given.", rich_help_panel=FILES)
    ] = None,
    mode: Annotated[
        Literal["train", "eval"], typer.Option(help="Of its network.", rich_help_panel=FILES)
    ] = "train",
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:1.", rich_help_panel=FILES)
    ] = "auto",
    mean: Annotated[
        str,
        typer.Option(help="Of the normalisation: 0.49,0.48,0.45.", rich_help_panel=FILES),
    ] = "0.5",
    std: Annotated[str, typer.Option(rich_help_panel=FILES)] = "0.25",
) -> None:
    """Rebuild images from a reply that a run kept, or from files of any federation."""
    if presets:
        console.print(_presets())
        return
    settings: dict[str, object] = {
        "preset": preset,
        "iterations": iterations,
        "tv": tv,
        "lr": lr,
        "restarts": restarts,
        "seconds": seconds,
        "workers": workers,
    }
    if folder is not None and before is None and reply is None:
        _refuse(FILES, "of a run its scenario says that")
        if client is None or (round is None and unmix is None):
            raise BadInput("say what to attack in the run: --round and --client")
        labels = labels or "known"
        if labels not in ("known", "inferred"):
            raise BadInput('labels of a run are "known" or "inferred"')
        _attack_run(
            folder,
            round,
            client,
            unmix,
            settings | {"labels": labels, "order": order, "adapt": adapt},
            preview=preview,
            out=out,
        )
        return
    if folder is not None or before is None or reply is None or model is None:
        raise BadInput(
            "name the folder of a run with --round and --client, or --global, --reply and --model"
        )
    _refuse(RUN, "files belong to none")
    if labels == "known":
        raise BadInput("nobody knows the labels of files: give the classes, or infer them")
    from attacks.knowledge import LocalSGD
    from fedlab.integrations.update_files import Update

    try:
        local = (
            None
            if local_lr is None
            else LocalSGD(
                lr=local_lr,
                momentum=local_momentum,
                epochs=local_epochs,
                batch_size=local_batch or num_images,
            )
        )
    except ValueError as error:
        raise BadInput(str(error)) from error
    update = Update(
        before=before,
        reply=reply,
        model=model,
        shape=_shape(shape),
        classes=classes,
        kind=kind,
        num_images=num_images,
        labels=None if labels in (None, "inferred") else _whole(labels, "labels"),
        local=local,
        training_mode=mode == "train",
        mean=_numbers(mean, "mean"),
        std=_numbers(std, "std"),
    )
    _attack_files(update, settings, device, preview=preview, out=out or Path("rebuilt.png"))


def _refuse(panel: str, why: str) -> None:
    """Options of the other use, which would be ignored without a word."""
    context = click.get_current_context()
    for option in context.command.params:
        given = context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if given and getattr(option, "rich_help_panel", None) == panel:
            raise BadInput(f"{option.opts[0]} is for {panel[0].lower()}{panel[1:]}: {why}")


def _attack_run(
    folder: Path,
    round: int | None,
    client: int,
    unmix: str | None,
    settings: dict[str, object],
    *,
    preview: Path | None,
    out: Path | None,
) -> None:
    from fedlab.report.figures.reconstructions import save
    from fedlab.report.tables.terminal import leak_table
    from fedlab.simulation.federation import Federation

    name = f"client-{client:05d}"
    name = f"unmixed-{name}" if unmix is not None else f"round-{round:04d}-{name}"
    target = _target(out or folder / "reconstructions" / f"{name}.png")
    federation = Federation.resume(folder)
    watch = _watch(preview)
    if unmix is not None:
        found = federation.unmix(client=client, rounds=unmix, watch=watch, **settings)
        console.print(str(found))
        save(found.show(), target)
    else:
        leak = federation.reconstruct(round=round or 0, client=client, watch=watch, **settings)
        console.print(leak_table(leak))
        save(leak.show(), target)
    console.print(f"picture: {target}", soft_wrap=True)


def _attack_files(
    update: "Update",
    settings: dict[str, object],
    device: str,
    *,
    preview: Path | None,
    out: Path,
) -> None:
    from fedlab.core.devices import device_of
    from fedlab.integrations.external_update import reconstruction_entry
    from fedlab.integrations.update_files import reconstruct_update
    from fedlab.report.figures.gallery import gallery
    from fedlab.report.figures.reconstructions import save
    from fedlab.server.attacker import attack_of

    target = _target(out)
    entry = reconstruction_entry(settings)
    found = reconstruct_update(
        update,
        attack_of(entry),
        device=str(device_of(device)),
        seconds=entry.seconds,
        workers=entry.workers,
        watch=_watch(preview),
    )
    hard = found.labels.argmax(1) if found.labels.is_floating_point() else found.labels
    save(
        gallery(
            found.images,
            [f"label {label}" for label in hard.tolist()],
            title="What does this update give away?",
        ),
        target,
    )
    console.print(
        f"{len(found.images)} images rebuilt in {found.seconds:.1f} s, matching cost "
        f"{found.cost:.2g}; unscored, since there is no truth here",
        soft_wrap=True,
    )
    console.print(f"picture: {target}", soft_wrap=True)


def _target(path: Path) -> Path:
    """A picture's path, made sure of before an attack that takes minutes."""
    from fedlab.core.files import check_folder

    check_folder(path.parent)
    if path.is_dir():
        raise BadInput(f"{path} is a folder: name a PNG to write with --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _watch(preview: Path | None) -> "Callable[[Progress], None] | None":
    if preview is None:
        return None
    target = _target(preview)

    def write(progress: "Progress") -> None:
        from fedlab.report.figures.gallery import gallery
        from fedlab.report.figures.reconstructions import save

        names = [""] * len(progress.images)
        title = f"restart {progress.restart}, iteration {progress.iteration}, {progress.cost:.2g}"
        save(gallery(progress.images, names, title=title), target)

    return write


def _presets() -> Table:
    from attacks.reconstruction import PRESETS

    table = Table("preset", "what it does", "source", title="Attacks by name", show_lines=True)
    for name, attack in PRESETS.items():
        table.add_row(name, _summary(attack), attack.source)
    return table


def _summary(attack: "AttackSettings") -> str:
    if attack.method == "analytic":
        return "read off the first layer, no optimisation"
    return (
        f"{attack.objective}, {attack.optimiser}, TV {attack.tv:g}, "
        f"{attack.iterations:,} iterations, labels {attack.label_rule}"
    )


def _shape(text: str) -> tuple[int, int, int]:
    sides = text.lower().split("x")
    if len(sides) != 3 or not all(side.isdecimal() and int(side) for side in sides):
        raise BadInput(f'shape "{text}" must be written as channels x height x width: 3x32x32')
    channels, height, width = map(int, sides)
    return channels, height, width


def _whole(text: str, what: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise BadInput(f'{what} "{text}" must be whole numbers with commas: 3,5')
    return tuple(int(part) for part in parts)


def _numbers(text: str, what: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise BadInput(f'{what} "{text}" must be numbers with commas: 0.49,0.48') from error
