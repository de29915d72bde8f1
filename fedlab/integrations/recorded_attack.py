"""Attack a capture of another Flower app, for which no scenario says what is known."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attacks.knowledge import Knowledge, LocalSGD, PublicImages
from attacks.reconstruction import Reconstruction
from attacks.reconstruction.watch import Watch
from fedlab.core.devices import device_of
from fedlab.core.errors import BadInput
from fedlab.integrations.external_network import Network, network_of, normalisation_of
from fedlab.integrations.external_update import (
    AttackableUpdate,
    Exchange,
    reconstruct_exchange,
    reconstruction_entry,
)
from fedlab.scenario.tables import Reconstruct
from fedlab.server.attacker import attack_of
from fedlab.server.captures import Capture


def reconstruct_capture(
    folder: Path | str,
    *,
    round: int,
    client: int,
    model: Network,
    shape: tuple[int, int, int],
    classes: int,
    num_images: int | None = None,
    labels: Sequence[int] | Tensor | None = None,
    local: LocalSGD | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    public: PublicImages | None = None,
    seed: int = 0,
    device: str = "auto",
    watch: Watch | None = None,
    **settings: Any,
) -> Reconstruction:
    """Reconstruct the images behind a capture of another app, kept by ``observe``.

    Args:
        folder: Folder of the captures.
        round: Round number, counted from 1.
        client: Number of the client.
        model: The app's network; its weights are not used, and it is not changed.
        shape: Channels, height and width of an image.
        classes: Number of outputs of the network.
        num_images: Number of images behind the reply; by default the number that the client
            reported.
        labels: int64 ``[n]`` or soft ``[n, classes]``, in the order of the local batches; inferred
            by default.
        local: Local training of the client, in place of the value given to ``observe``.
        mean: Mean of the app's normalisation, one value or one per channel, on pixels in [0, 1];
            needed unless the network's first layer is torchvision's ``Normalize``.
        std: Standard deviation of the normalisation, one value or one per channel; needed likewise.
        public: Images like the clients', with their labels, for label inference, for the check of
            the update's length and for the power of the attack; ``None`` for none, and power is
            not measured.
        seed: Seed of the first images.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        watch: Function that is called now and then with the progress.
        **settings: Further settings of a ``[[reconstructions]]`` entry, such as ``preset="fast"``,
            ``iterations=300``, ``seconds=20``, ``mode="eval"``, ``order="average"`` or
            ``power=False``, which leaves out the attacks on simulated updates that measure power.

    Returns:
        The reconstruction, unscored; ``fedlab.score_images`` compares it with true images.

    Raises:
        BadInput: If no capture was kept, a setting is wrong, or capture, network and facts do not
            fit each other.
    """
    entry = reconstruction_entry(settings)
    update = attackable_capture(
        folder,
        round=round,
        client=client,
        model=model,
        shape=shape,
        classes=classes,
        entry=entry,
        num_images=num_images,
        labels=labels,
        local=local,
        mean=mean,
        std=std,
        public=public,
    )
    return reconstruct_exchange(
        update,
        attack_of(entry),
        entry=entry,
        seed=seed,
        device=device_of(device),
        watch=watch,
    )


def attackable_capture(
    folder: Path | str,
    *,
    round: int,
    client: int,
    model: Network,
    shape: tuple[int, int, int],
    classes: int,
    entry: Reconstruct,
    num_images: int | None = None,
    labels: Sequence[int] | Tensor | None = None,
    local: LocalSGD | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    public: PublicImages | None = None,
    model_options: Mapping[str, Any] | None = None,
) -> AttackableUpdate:
    """Read a capture of another app and make the network.

    Args:
        folder: Folder of the captures.
        round: Round number, counted from 1.
        client: Number of the client.
        model: The app's network; see ``reconstruct_capture``, like the following facts.
        shape: Channels, height and width of an image.
        classes: Number of outputs of the network.
        num_images: Number of images; by default the number that the client reported.
        labels: Labels that the attacker is granted.
        local: Local training of the client, in place of the value given to ``observe``.
        mean: Mean of the app's normalisation.
        std: Standard deviation of the normalisation.
        public: Images like the clients', with their labels.
        entry: The attack's entry, of which the mode of the network and the order of images count.
        model_options: Further arguments of the class or function that makes the network.

    Raises:
        BadInput: If no capture was kept, or capture, network and facts do not fit each other.
    """
    capture = Capture.load(Path(folder), round=round, client=client)
    if capture.facts.malicious is not None:
        raise BadInput(
            f"in round {round} a malicious server prepared what it sent: "
            "Federation.reconstruct knows what to read out"
        )
    network = network_of(model, shape, classes, model_options)
    normalisation = normalisation_of(network, mean, std, shape[0])
    exchange = Exchange(
        capture.payload.kind,
        capture.global_state,
        capture.payload.tensors,
        f"what the server sent in round {round}",
        f"the reply of {capture.of} in round {round}",
    )
    try:
        knowledge = _knowledge(
            capture, entry, shape, classes, num_images, labels, local, normalisation, public
        )
    except ValueError as error:
        raise BadInput(str(error)) from error
    return AttackableUpdate(network, exchange, knowledge)


def _knowledge(
    capture: Capture,
    entry: Reconstruct,
    shape: tuple[int, int, int],
    classes: int,
    num_images: int | None,
    labels: Sequence[int] | Tensor | None,
    local: LocalSGD | None,
    normalisation: tuple[tuple[float, ...], tuple[float, ...]],
    public: PublicImages | None,
) -> Knowledge:
    """What the server knew when the capture was kept, with what the caller adds."""
    told, granted = capture.facts, None if labels is None else torch.as_tensor(labels)
    if local is not None:
        told = told.with_local_sgd(local)
    if capture.payload.kind == "weights" and not told.lr:
        raise BadInput(
            "weights can only be attacked if the client's learning rate is known: pass "
            "local=LocalSGD(lr=...) here, or to observe"
        )
    if num_images is None:
        num_images = capture.payload.num_examples if granted is None else len(granted)
    known = told.knowledge(
        shape=shape,
        num_classes=classes,
        mean=normalisation[0],
        std=normalisation[1],
        kind=capture.payload.kind,
        num_images=num_images,
    )
    training = known.training_mode if entry.mode == "announced" else entry.mode == "train"
    # Labels are given in the order of the batches, which only the caller knows.
    return replace(
        known,
        labels=granted,
        training_mode=training,
        public=public,
        order="average" if entry.order == "average" else "sequential",
    )
