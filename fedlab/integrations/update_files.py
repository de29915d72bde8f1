"""Attack an update from two files or sets of tensors, given the network that they belong to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from attacks.knowledge import Knowledge, LocalSGD, PublicImages
from attacks.reconstruction import AttackSettings, Reconstruction
from attacks.reconstruction.watch import Watch
from fedlab.core.devices import device_of
from fedlab.core.errors import BadInput
from fedlab.integrations.external_network import Network, network_of, normalisation_of
from fedlab.integrations.external_update import (
    AttackableUpdate,
    Exchange,
    Kind,
    reconstruct_exchange,
)
from fedlab.integrations.readers import read_weights
from fedlab.scenario.tables import Reconstruct
from fedlab.server.attacker import attack_of

if TYPE_CHECKING:
    from flwr.app import ArrayRecord

DEFAULT = Reconstruct()
"""The attack that tunes itself, with its default budgets."""


@dataclass(frozen=True)
class Update:
    """An update that no run of fedlab made, and what is known about it.

    Attributes:
        before: The global model's ``state_dict``: a file in one of the formats of
            ``fedlab.integrations.readers``, tensors by name, or Flower's ``ArrayRecord``.
        reply: The client's weights, their difference from those before, or a gradient, likewise
            and by the same names.
        model: The network: a module, a class or function that makes one, ``package.module:Net``,
            or a name that ``model.name`` of a scenario takes. Its weights are not used.
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
        model_options: Further arguments of the class or function that makes the network.
    """

    before: "Path | str | Mapping[str, Tensor] | ArrayRecord" = field(repr=False)
    reply: "Path | str | Mapping[str, Tensor] | ArrayRecord" = field(repr=False)
    model: Network
    shape: tuple[int, int, int]
    classes: int
    kind: Kind = "weights"
    num_images: int | None = None
    labels: Sequence[int] | Tensor | None = None
    local: LocalSGD | None = None
    training_mode: bool = True
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    public: PublicImages | None = None
    model_options: Mapping[str, Any] = field(default_factory=dict)

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

    def attackable(self) -> AttackableUpdate:
        """Read the files and make the network.

        Raises:
            BadInput: If a file cannot be read, or the facts do not fit each other.
        """
        network = network_of(self.model, self.shape, self.classes, self.model_options)
        mean, std = normalisation_of(network, self.mean, self.std, self.shape[0])
        sent, source = read_weights(self.before, "before")
        received, reply = read_weights(self.reply, "after")
        try:
            knowledge = Knowledge(
                image_shape=self.shape,
                num_classes=self.classes,
                mean=mean,
                std=std,
                num_images=self.count,
                labels=None if self.labels is None else torch.as_tensor(self.labels),
                local=None if self.kind == "gradient" else self.local,
                training_mode=self.training_mode,
                public=self.public,
            )
        except ValueError as error:
            raise BadInput(str(error)) from error
        return AttackableUpdate(
            network, Exchange(self.kind, sent, received, source, reply), knowledge
        )


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
    attackable = update.attackable()
    return reconstruct_exchange(
        attackable,
        attack if isinstance(attack, AttackSettings) else attack_of(attack),
        entry=DEFAULT if isinstance(attack, AttackSettings) else attack,
        seed=seed,
        device=device_of(device),
        watch=watch,
    )
