"""Attack an update from anywhere: two files of tensors and the network they belong to."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from attacks.knowledge import Knowledge, LocalSGD
from attacks.reconstruction import AttackSettings, Reconstruction
from attacks.reconstruction.watch import Watch
from fedlab.core.errors import BadInput
from fedlab.core.tensor_files import read_tensors
from fedlab.integrations.external_update import Exchange, Kind, network_of, per_channel, rebuild


@dataclass(frozen=True)
class Update:
    """What is known of an update that did not come from a run of fedlab.

    Attributes:
        before: The .safetensors file of the global model's ``state_dict``.
        reply: The .safetensors file of the client's weights, of what they differ by from those
            before, or of a gradient, by the same names.
        model: ``package.module:function``, called with ``shape`` and ``classes``, or a name that
            ``model.name`` of a scenario takes.
        shape: Channels, height and width of an image.
        classes: Outputs of the network.
        kind: What the reply holds.
        num_images: Images behind it.
        labels: Of the images, in the order of the local batches; inferred unless given.
        local: The client's training; needed for all but a gradient.
        training_mode: Whether the client's network was in training mode.
        mean: Of the normalisation, per channel, on pixels in [0, 1].
        std: Likewise.
    """

    before: Path
    reply: Path
    model: str
    shape: tuple[int, int, int]
    classes: int
    kind: Kind = "weights"
    num_images: int = 1
    labels: tuple[int, ...] | None = None
    local: LocalSGD | None = None
    training_mode: bool = True
    mean: tuple[float, ...] = field(default=(0.5,))
    std: tuple[float, ...] = field(default=(0.25,))


def reconstruct_update(
    update: Update,
    attack: AttackSettings,
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
    model = network_of(update.model, update.shape, update.classes)
    sent, _ = read_tensors(update.before)
    received, _ = read_tensors(update.reply)
    try:
        knowledge = Knowledge(
            image_shape=update.shape,
            num_classes=update.classes,
            mean=per_channel(update.mean, update.shape[0]),
            std=per_channel(update.std, update.shape[0]),
            num_images=update.num_images,
            labels=None if update.labels is None else torch.tensor(update.labels),
            local=None if update.kind == "gradient" else update.local,
            training_mode=update.training_mode,
        )
        return rebuild(
            model,
            Exchange(update.kind, sent, received, str(update.before), str(update.reply)),
            knowledge,
            attack,
            adapt=True,
            seed=seed,
            device=torch.device(device),
            seconds=seconds,
            workers=workers,
            watch=watch,
        )
    except ValueError as error:
        raise BadInput(str(error)) from error
