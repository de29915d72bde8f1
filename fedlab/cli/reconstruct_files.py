"""The command ``fedlab reconstruct-files``."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fedlab.cli import options
from fedlab.core.consoles import console
from fedlab.core.errors import BadInput

if TYPE_CHECKING:
    from attacks.knowledge import LocalSGD, PublicImages
    from fedlab.integrations.update_files import Update


def reconstruct_files(
    folder: Annotated[Path | None, typer.Argument(hidden=True)] = None,
    before: Annotated[
        Path | None,
        typer.Option(
            "--global",
            help="Safetensors file of the global state_dict that the client was sent. Needed.",
        ),
    ] = None,
    reply: Annotated[
        Path | None, typer.Option(help="Safetensors file of the client's reply. Needed.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Network: a name from `fedlab list models`, or package.module:function, which is "
            "run with shape and classes. Needed."
        ),
    ] = None,
    kind: Annotated[
        Literal["weights", "difference", "gradient"],
        typer.Option(
            help="Content of the reply: weights after training, their difference from the global "
            "ones, or the gradient of one batch."
        ),
    ] = "weights",
    shape: Annotated[
        str | None,
        typer.Option(help="Image shape as CHANNELSxHEIGHTxWIDTH, such as 3x32x32 pixels. Needed."),
    ] = None,
    classes: Annotated[
        int | None, typer.Option(min=2, help="Number of classes in the data set. Needed.")
    ] = None,
    num_images: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of images behind the reply. Needed unless labels are given."
        ),
    ] = None,
    labels: Annotated[
        str,
        typer.Option(help="Labels of the images, such as 3,5, or inferred to infer them."),
    ] = "inferred",
    local_lr: Annotated[
        float | None,
        typer.Option(
            help="Learning rate of the client, above 0. Needed unless the reply is a gradient."
        ),
    ] = None,
    optimiser: Annotated[
        Literal["sgd", "adam", "adamw"], typer.Option(help="Optimiser of the client.")
    ] = "sgd",
    local_momentum: Annotated[
        float, typer.Option(min=0, help="Momentum of the client's SGD.")
    ] = 0.0,
    local_weight_decay: Annotated[
        float,
        typer.Option(min=0, help="L2 penalty of SGD and Adam, or weight decay of AdamW."),
    ] = 0.0,
    local_epochs: Annotated[
        int, typer.Option(min=1, help="Number of local epochs of the client.")
    ] = 1,
    local_batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Images in a batch of the client. Needed for weights of more than one image.",
        ),
    ] = None,
    mode: Annotated[
        Literal["train", "eval"], typer.Option(help="Mode of the client's network.")
    ] = "train",
    mean: Annotated[
        str | None,
        typer.Option(
            help="Mean of the client's normalisation for pixels in [0, 1]: one value, or one per "
            "channel such as 0.49,0.48,0.45; 0 if its network takes pixels in [0, 1]. Needed "
            "unless the network's first layer is torchvision's Normalize."
        ),
    ] = None,
    std: Annotated[
        str | None,
        typer.Option(
            help="Standard deviation of the normalisation, above 0: one value, or one per channel; "
            "1 if the network takes pixels in [0, 1]. Needed likewise."
        ),
    ] = None,
    public: Annotated[
        str | None,
        typer.Option(
            help="Images like the client's, of which the test images are used: a data set as "
            "data.source of a scenario takes it, such as folder:PATH or npz:PATH. They sharpen the "
            "checks, and the power of the attack is measured on them. Default: none."
        ),
    ] = None,
    power: Annotated[
        bool,
        typer.Option(
            help="With --public, measure the power of the attack: attack simulated clients of 8 "
            "images or more."
        ),
    ] = True,
    device: Annotated[
        str,
        typer.Option(
            help="Device: cpu, cuda, cuda:1 and so on, or auto for a GPU if there is one."
        ),
    ] = "auto",
    presets: options.ListPresets = False,
    preset: options.Preset = None,
    iterations: options.Iterations = None,
    tv: options.TotalVariation = None,
    lr: options.StepSize = None,
    restarts: options.Restarts = None,
    workers: options.Workers = None,
    seconds: options.Seconds = None,
    tuning_seconds: options.TuningSeconds = None,
    preview: options.Preview = None,
    out: Annotated[Path, typer.Option(help="PNG, PDF or SVG file to write.")] = Path("rebuilt.png"),
) -> None:
    """Reconstruct images from files of any federation: the global model and a client's reply.

    The result is not scored, since the true images are not known.
    """
    if presets:
        from fedlab.cli.list import presets_table

        console.print(presets_table())
        return
    if folder is not None:
        raise BadInput(
            f"name the folder of a run for fedlab reconstruct, or files here, not both: {folder}"
        )
    if before is None or reply is None or model is None:
        raise BadInput("name the files and the network: --global, --reply and --model")
    if shape is None or classes is None:
        raise BadInput("name the shape of the images and the number of classes: --shape, --classes")
    if labels == "known":
        raise BadInput("nobody knows the labels of files: give the classes, or infer them")
    from fedlab.integrations.update_files import Update

    given = None if labels == "inferred" else _classes(labels)
    update = Update(
        before=before,
        reply=reply,
        model=model,
        shape=_shape(shape),
        classes=classes,
        kind=kind,
        num_images=num_images,
        labels=given,
        training_mode=mode == "train",
        mean=None if mean is None else _numbers(mean, "mean"),
        std=None if std is None else _numbers(std, "std"),
        public=None if public is None else _public(public, _shape(shape), classes),
    )
    if local_lr is not None:
        update = replace(
            update,
            local=_local_training(
                update.count,
                local_batch,
                lr=local_lr,
                optimiser=optimiser,
                momentum=local_momentum,
                weight_decay=local_weight_decay,
                epochs=local_epochs,
            ),
        )
    settings: dict[str, object] = {
        "preset": preset,
        "iterations": iterations,
        "tv": tv,
        "lr": lr,
        "restarts": restarts,
        "seconds": seconds,
        "tuning_seconds": tuning_seconds,
        "workers": workers,
        "power": power,
    }
    _attack(update, settings, device, preview=preview, out=out)


def _public(source: str, shape: tuple[int, int, int], classes: int) -> "PublicImages":
    """The test images of a data set, which stand for public ones."""
    from attacks.knowledge import PublicImages
    from attacks.reconstruction.problem import MOST_PUBLIC
    from fedlab.data.loading import load

    data = load(source, image_size=shape[1] if source.startswith("folder:") else None)
    if data.shape != shape or data.num_classes > classes:
        raise BadInput(
            f"--public has images of {'x'.join(map(str, data.shape))} in {data.num_classes} "
            f"classes, but the client's are {'x'.join(map(str, shape))} in {classes}: give images "
            "of the same kind"
        )
    return PublicImages(data.pixels(data.test_images[:MOST_PUBLIC]), data.test_labels[:MOST_PUBLIC])


def _local_training(count: int, batch: int | None, **settings: Any) -> "LocalSGD":
    """The client's training; the size of its batches is needed where it makes a difference."""
    from attacks.knowledge import LocalSGD

    if count > 1 and batch is None:
        raise BadInput(
            f"the client's batch size is needed for {count} images: give --local-batch {count} if "
            "it made one step an epoch on all of them"
        )
    try:
        return LocalSGD(batch_size=batch or 1, **settings)
    except ValueError as error:
        raise BadInput(str(error)) from error


def _attack(
    update: "Update", settings: dict[str, object], device: str, *, preview: Path | None, out: Path
) -> None:
    """Attack an update, draw the images, and print how well they match."""
    from fedlab.cli.pictures import prepare_picture, preview_writer
    from fedlab.core.devices import device_of
    from fedlab.integrations.external_update import reconstruction_entry
    from fedlab.integrations.update_files import reconstruct_update
    from fedlab.report.figures.gallery import gallery
    from fedlab.report.figures.reconstructions import save
    from fedlab.report.verdicts.counts import simulated_power_sentence

    target = prepare_picture(out)
    found = reconstruct_update(
        update,
        reconstruction_entry(settings),
        device=str(device_of(device)),
        watch=preview_writer(preview),
    )
    hard = found.labels.argmax(1) if found.labels.is_floating_point() else found.labels
    names = [f"label {label}" for label in hard.tolist()]
    save(gallery(found.images, names, title="What does this update give away?"), target)
    console.print(
        f"{len(found.images)} images rebuilt in {found.seconds:.1f} s, matching cost "
        f"{found.cost:.2g}; unscored, since there is no truth here",
        soft_wrap=True,
    )
    if settings["power"]:
        console.print(simulated_power_sentence(found.power), soft_wrap=True)
    console.print(f"picture: {target}", soft_wrap=True)


def _shape(text: str) -> tuple[int, int, int]:
    sides = text.lower().split("x")
    if len(sides) != 3 or not all(side.isdecimal() and int(side) for side in sides):
        raise BadInput(f'shape "{text}" must be written as channels x height x width: 3x32x32')
    channels, height, width = map(int, sides)
    return channels, height, width


def _classes(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise BadInput(f'labels "{text}" must be whole numbers with commas: 3,5')
    return tuple(int(part) for part in parts)


def _numbers(text: str, what: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise BadInput(f'{what} "{text}" must be numbers with commas: 0.49,0.48') from error
