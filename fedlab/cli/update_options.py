"""Options about an update of another federation, and what their texts mean."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fedlab.core.errors import BadInput

if TYPE_CHECKING:
    from attacks.knowledge import LocalSGD

Captures = Annotated[
    Path | None,
    typer.Argument(
        help="Folder that fedlab.observe wrote; needs --round and --client. Default: two files "
        "instead, --global and --reply.",
    ),
]
Round = Annotated[
    int | None, typer.Option(min=1, help="Round of the capture, counted from 1. Default: none.")
]
Client = Annotated[
    int | None, typer.Option(min=0, help="Client of the capture, counted from 0. Default: none.")
]
Before = Annotated[
    Path | None,
    typer.Option(
        "--global",
        help="File of the global state_dict that the client was sent: .safetensors, a checkpoint "
        "of PyTorch (.pt, .pth, .ckpt, .bin) or .npz. Needed without a folder.",
    ),
]
Reply = Annotated[
    Path | None,
    typer.Option(help="File of the client's reply, likewise. Needed without a folder."),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="Network: a name from `fedlab list models`, or package.module:Net, a class, function "
        "or module, which is run; with shape and classes if it has such parameters. Needed."
    ),
]
ModelSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="model.KEY=VALUE",
        help="Further argument of the class or function of --model. May be given several times.",
    ),
]
Kind = Annotated[
    Literal["weights", "difference", "gradient"],
    typer.Option(
        help="Content of the reply: weights after training, their difference from the global "
        "ones, or the gradient of one batch."
    ),
]
Shape = Annotated[
    str | None,
    typer.Option(help="Image shape as CHANNELSxHEIGHTxWIDTH, such as 3x32x32 pixels. Needed."),
]
Classes = Annotated[
    int | None, typer.Option(min=2, help="Number of classes in the data set. Needed.")
]
NumImages = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of images behind the reply. Default: what observe noted, or the number of "
        "labels or of true images.",
    ),
]
Labels = Annotated[
    str,
    typer.Option(help="Labels of the images, such as 3,5, or inferred to infer them."),
]
LocalRate = Annotated[
    float | None,
    typer.Option(
        help="Learning rate of the client, above 0. Needed unless the reply is a gradient or "
        "observe was told."
    ),
]
LocalOptimiser = Annotated[
    Literal["sgd", "adam", "adamw"], typer.Option(help="Optimiser of the client.")
]
LocalMomentum = Annotated[float, typer.Option(min=0, help="Momentum of the client's SGD.")]
LocalDecay = Annotated[
    float,
    typer.Option(min=0, help="L2 penalty of SGD and Adam, or weight decay of AdamW."),
]
LocalEpochs = Annotated[int, typer.Option(min=1, help="Number of local epochs of the client.")]
LocalBatch = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Images in a batch of the client. Needed for weights of more than one image.",
    ),
]
Mode = Annotated[
    Literal["train", "eval"] | None,
    typer.Option(help="Mode of the client's network. Default: train, or what observe was told."),
]
Mean = Annotated[
    str | None,
    typer.Option(
        help="Mean of the client's normalisation for pixels in [0, 1]: one value, or one per "
        "channel such as 0.49,0.48,0.45; 0 if its network takes pixels in [0, 1]. Needed "
        "unless the network's first layer is torchvision's Normalize."
    ),
]
Std = Annotated[
    str | None,
    typer.Option(
        help="Standard deviation of the normalisation, above 0: one value, or one per channel; "
        "1 if the network takes pixels in [0, 1]. Needed likewise."
    ),
]
Public = Annotated[
    str | None,
    typer.Option(
        help="Images like the client's, of which the test images are used: a data set as "
        "data.source of a scenario takes it, such as folder:PATH or npz:PATH. They sharpen the "
        "checks, the power of the attack is measured on them, and they are what chance is made "
        "of. Default: none."
    ),
]
Truth = Annotated[
    Path | None,
    typer.Option(
        help="The client's true images, only to score the attack: an .npz file with images, uint8 "
        "[n, height, width] or [n, height, width, channels], and labels [n]. Default: none."
    ),
]
Page = Annotated[
    Path | None,
    typer.Option(
        help="HTML file to write, with verdict, threat model, checks and pictures. Default: none; "
        "`fedlab report` writes one about a folder."
    ),
]
Power = Annotated[
    bool,
    typer.Option(
        help="With --public, measure the power of the attack: attack simulated clients of 8 "
        "images or more."
    ),
]
Device = Annotated[
    str,
    typer.Option(help="Device: cpu, cuda, cuda:1 and so on, or auto for a GPU if there is one."),
]


def local_training(count: int, batch: int | None, **settings: Any) -> "LocalSGD":
    """The client's training; the size of its batches is needed where it makes a difference.

    Raises:
        BadInput: If a number is out of range, or the size of batches is missing.
    """
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


def model_settings(texts: list[str] | None) -> dict[str, Any]:
    """Further arguments of the network by name.

    Raises:
        BadInput: If a text is no setting of the model.
    """
    from fedlab.core.settings import value_of

    found = {}
    for text in texts or ():
        path, equals, value = text.partition("=")
        name = path.strip().removeprefix("model.")
        if not equals or not name.isidentifier() or name == path.strip():
            raise BadInput(
                f'"{text}" is no setting of the network: write it as --set model.width=8'
            )
        found[name] = value_of(value)
    return found


def shape_of(text: str) -> tuple[int, int, int]:
    """Channels, height and width.

    Raises:
        BadInput: If the text is no shape.
    """
    sides = text.lower().split("x")
    if len(sides) != 3 or not all(side.isdecimal() and int(side) for side in sides):
        raise BadInput(f'shape "{text}" must be written as channels x height x width: 3x32x32')
    channels, height, width = map(int, sides)
    return channels, height, width


def classes_of(text: str) -> tuple[int, ...] | None:
    """Labels of images; ``None`` if they are to be inferred.

    Raises:
        BadInput: If the text is no list of classes.
    """
    if text == "known":
        raise BadInput("nobody knows the labels of files: give the classes, or infer them")
    if text == "inferred":
        return None
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise BadInput(f'labels "{text}" must be whole numbers with commas: 3,5')
    return tuple(int(part) for part in parts)


def numbers_of(text: str | None, what: str) -> tuple[float, ...] | None:
    """Numbers of an option; ``None`` if it is not given.

    Raises:
        BadInput: If the text is no list of numbers.
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise BadInput(f'{what} "{text}" must be numbers with commas: 0.49,0.48') from error
