"""Attack an update from two files of tensors, given the network that they belong to."""

from dataclasses import dataclass
from pathlib import Path

import torch

from attacks.knowledge import Knowledge, LocalSGD, PublicImages
from attacks.reconstruction import AttackSettings, Reconstruction
from attacks.reconstruction.watch import Watch
from fedlab.core.devices import device_of
from fedlab.core.errors import BadInput
from fedlab.core.tensor_files import read_tensors
from fedlab.integrations.external_update import (
    Exchange,
    Kind,
    network_of,
    normalisation_of,
    reconstruct_exchange,
)
from fedlab.scenario.tables import Reconstruct
from fedlab.server.attacker import attack_of

DEFAULT = Reconstruct()
"""The attack that tunes itself, with its default budgets."""


@dataclass(frozen=True)
class Update:
    """An update that no run of fedlab made, and what is known about it.

    Attributes:
        before: A .safetensors file of the global model's ``state_dict``.
        reply: A .safetensors file of the client's weights, their difference from those before, or
            a gradient, by the same names.
        model: ``package.module:function``, called with ``shape`` and ``classes``, or a name that
            ``model.name`` of a scenario takes.
        shape: Channels, height and width of an image.
        classes: Number of outputs of the network.
        kind: Content of the reply.
        num_images: Number of images behind the reply; needed unless labels are given.
        labels: Labels of the images, in the order of the local batches; inferred by default.
        local: Local training of the client; needed for all but a gradient.
        training_mode: True if the client's network was in training mode.
        mean: Mean of the normalisation, one value or one per channel, on pixels in [0, 1]; needed
            unless the network's first layer is torchvision's ``Normalize``.
        std: Standard deviation of the normalisation, one value or one per channel; needed likewise.
        public: Images like the clients', with their labels; ``None`` for none, and the power of
            the attack is not measured.
    """

    before: Path
    reply: Path
    model: str
    shape: tuple[int, int, int]
    classes: int
    kind: Kind = "weights"
    num_images: int | None = None
    labels: tuple[int, ...] | None = None
    local: LocalSGD | None = None
    training_mode: bool = True
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    public: PublicImages | None = None

    @property
    def count(self) -> int:
        """Number of images behind the reply.

        Raises:
            BadInput: If neither it nor the labels are given.
        """
        if self.num_images is not None:
            return self.num_images
        if self.labels is None:
            raise BadInput(
                "the number of images behind the reply is needed: give num_images (--num-images), "
                "or their labels"
            )
        return len(self.labels)


def reconstruct_update(
    update: Update,
    attack: AttackSettings | Reconstruct = DEFAULT,
    *,
    seed: int = 0,
    device: str = "auto",
    watch: Watch | None = None,
) -> Reconstruction:
    """Reconstruct the images behind an update.

    Args:
        update: The files and what is known about them.
        attack: Settings of the attack, or a ``[[reconstructions]]`` entry, which has budgets as
            well; by default the attack that tunes itself.
        seed: Seed of the first images.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        watch: Function that is called now and then with the progress.

    Returns:
        The reconstruction, unscored, since the true images are not known.

    Raises:
        BadInput: If a file cannot be read, or files, network and facts do not fit each other.
    """
    model = network_of(update.model, update.shape, update.classes)
    mean, std = normalisation_of(model, update.mean, update.std, update.shape[0])
    sent, _ = read_tensors(update.before)
    received, _ = read_tensors(update.reply)
    try:
        knowledge = Knowledge(
            image_shape=update.shape,
            num_classes=update.classes,
            mean=mean,
            std=std,
            num_images=update.count,
            labels=None if update.labels is None else torch.tensor(update.labels),
            local=None if update.kind == "gradient" else update.local,
            training_mode=update.training_mode,
            public=update.public,
        )
        return reconstruct_exchange(
            model,
            Exchange(update.kind, sent, received, str(update.before), str(update.reply)),
            knowledge,
            attack if isinstance(attack, AttackSettings) else attack_of(attack),
            entry=DEFAULT if isinstance(attack, AttackSettings) else attack,
            seed=seed,
            device=device_of(device),
            watch=watch,
        )
    except ValueError as error:
        raise BadInput(str(error)) from error
