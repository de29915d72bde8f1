"""Attack an update from anywhere: two files of tensors and the network they belong to."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from attacks.knowledge import Knowledge, LocalSGD
from attacks.payload import Payload
from attacks.reconstruction import Attack, Reconstruction, invert
from attacks.reconstruction.defended import adapted
from attacks.reconstruction.invert import Watch
from fedlab.errors import BadInput
from fedlab.models import build
from fedlab.tensor_files import read_tensors


@dataclass(frozen=True)
class Update:
    """What is known of an update that did not come from a run of fedlab.

    Attributes:
        before: The .safetensors file of the global model's ``state_dict``.
        reply: The .safetensors file of the client's weights, or of a gradient, by the same names.
        model: ``package.module:function``, called with ``shape`` and ``classes``, or a name that
            ``model.name`` of a scenario takes.
        shape: Channels, height and width of an image.
        classes: Outputs of the network.
        kind: What the reply holds.
        num_images: Images behind it.
        labels: Of the images, in the order of the local batches; inferred unless given.
        local: The client's training; needed for weights.
        training_mode: Whether the client's network was in training mode.
        mean: Of the normalisation, per channel, on pixels in [0, 1].
        std: Likewise.
    """

    before: Path
    reply: Path
    model: str
    shape: tuple[int, int, int]
    classes: int
    kind: Literal["gradient", "weights"] = "weights"
    num_images: int = 1
    labels: tuple[int, ...] | None = None
    local: LocalSGD | None = None
    training_mode: bool = True
    mean: tuple[float, ...] = field(default=(0.5,))
    std: tuple[float, ...] = field(default=(0.25,))


def reconstruct_update(
    update: Update,
    attack: Attack,
    *,
    seed: int = 0,
    device: str = "cpu",
    seconds: float | None = None,
    workers: int = 1,
    watch: Watch | None = None,
) -> Reconstruction:
    """Rebuild the images behind an update.

    Args:
        update: The files and what is known of them.
        attack: Settings.
        seed: Of the starting images.
        device: Where to compute.
        seconds: Time budget.
        workers: Restarts that run at the same time.
        watch: Called now and then with the progress.

    Returns:
        The result, unscored: there is no truth here.

    Raises:
        BadInput: If a file cannot be read, or files, network and facts do not fit each other.
    """
    factory = update.model if ":" in update.model else None
    name = "factory" if factory else update.model
    model = build(name, shape=update.shape, classes=update.classes, factory=factory).to(device)
    sent, _ = read_tensors(update.before)
    received, _ = read_tensors(update.reply)
    before = {n: t.to(device) for n, t in sent.items()}
    _in_order(model, sent, update.before)
    reply = _in_order(model, received, update.reply)
    steps = 1
    if update.kind == "weights":
        if update.local is None:
            raise BadInput("weights can only be attacked if the client's learning rate is known")
        steps = len(update.local.blocks(update.num_images))
    labels = None if update.labels is None else torch.tensor(update.labels, device=device)
    try:
        payload = Payload(
            update.kind,
            {n: t.to(device) for n, t in reply.items()},
            num_examples=update.num_images,
            steps=steps,
        )
        knowledge = Knowledge(
            image_shape=update.shape,
            num_classes=update.classes,
            mean=_channels(update.mean, update.shape[0]),
            std=_channels(update.std, update.shape[0]),
            num_images=update.num_images,
            labels=labels,
            local=update.local if update.kind == "weights" else None,
            training_mode=update.training_mode,
        )
        return invert(
            model,
            before,
            payload,
            knowledge,
            adapted(attack, payload, knowledge, sent=before),
            generator=torch.Generator().manual_seed(seed),
            seconds=seconds,
            workers=workers,
            watch=watch,
        )
    except ValueError as error:
        raise BadInput(str(error)) from error


def _in_order(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The parameters in the order of the layers, since a file has its names sorted."""
    names = [name for name, _ in model.named_parameters()]
    if missing := [name for name in names if name not in tensors]:
        raise BadInput(f"{path} lacks {missing[0]}, which the network has")
    return {name: tensors[name] for name in names}


def _channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    if len(values) not in (1, channels):
        raise BadInput(f"mean and std need 1 or {channels} values, not {len(values)}")
    return values * channels if len(values) == 1 else values
