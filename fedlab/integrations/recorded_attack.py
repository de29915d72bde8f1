"""Attack a Capture of somebody's own app, of which there is no scenario to say what is known."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attacks.knowledge import Knowledge, LocalSGD
from attacks.reconstruction import Reconstruction
from attacks.reconstruction.watch import Watch
from fedlab.core.devices import device_of
from fedlab.core.errors import BadInput
from fedlab.integrations.external_update import (
    Exchange,
    Network,
    network_of,
    per_channel,
    rebuild,
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
    mean: Sequence[float] = (0.5,),
    std: Sequence[float] = (0.25,),
    seed: int = 0,
    device: str = "auto",
    watch: Watch | None = None,
    **settings: Any,
) -> Reconstruction:
    """Rebuild the images behind a Capture of somebody's own app, which ``observe`` kept.

    Args:
        folder: Of the Captures.
        round: Counted from 1.
        client: Its number.
        model: The app's network; its weights do not matter, and it is left as it is.
        shape: Channels, height and width of an image.
        classes: Outputs of the network.
        num_images: Images behind the reply; as many as the client said unless given.
        labels: int64 ``[n]`` or soft ``[n, classes]``, in the order of the local batches; inferred
            unless given.
        local: The client's training, in place of what ``observe`` was told of it.
        mean: Of the app's normalisation, one value or one per channel, on pixels in [0, 1].
        std: Likewise.
        seed: Of the starting images.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        watch: Called now and then with the progress.
        **settings: More of a ``[[reconstructions]]`` entry, such as ``preset="fast"``,
            ``iterations=300``, ``seconds=20``, ``mode="eval"`` or ``order="average"``.

    Returns:
        The result, unscored; ``fedlab.score_images`` holds it against true images.

    Raises:
        BadInput: If none was kept, a setting is wrong, or Capture, network and facts do not fit.
    """
    capture = Capture.load(Path(folder), round=round, client=client)
    if capture.announced.malicious is not None:
        raise BadInput(
            f"in round {round} a malicious server prepared what it sent: "
            "Federation.reconstruct knows what to read out"
        )
    entry = reconstruction_entry(settings)
    try:
        return rebuild(
            network_of(model, shape, classes),
            Exchange(
                capture.payload.kind,
                capture.global_state,
                capture.payload.tensors,
                f"what the server sent in round {round}",
                f"the reply of {capture.of} in round {round}",
            ),
            _knowledge(capture, entry, shape, classes, num_images, labels, local, mean, std),
            attack_of(entry),
            adapt=entry.adapt,
            seed=seed,
            device=device_of(device),
            seconds=entry.seconds,
            workers=entry.workers,
            watch=watch,
        )
    except ValueError as error:
        raise BadInput(str(error)) from error


def _knowledge(
    capture: Capture,
    entry: Reconstruct,
    shape: tuple[int, int, int],
    classes: int,
    num_images: int | None,
    labels: Sequence[int] | Tensor | None,
    local: LocalSGD | None,
    mean: Sequence[float],
    std: Sequence[float],
) -> Knowledge:
    """What the server knew when it kept a Capture, and what its owner adds."""
    told, granted = capture.announced, None if labels is None else torch.as_tensor(labels)
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
        mean=per_channel(tuple(mean), shape[0]),
        std=per_channel(tuple(std), shape[0]),
        kind=capture.payload.kind,
        num_images=num_images,
    )
    training = known.training_mode if entry.mode == "announced" else entry.mode == "train"
    # Nobody knows the order in which somebody else's app took the images of given labels but the
    # one who gives them, in the order of the batches.
    return replace(
        known,
        labels=granted,
        training_mode=training,
        order="average" if entry.order == "average" else "sequential",
    )
