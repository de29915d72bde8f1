"""Export of a capture for the public attack library breaching.

Its servers send and its users share dictionaries (``server_payload`` and ``shared_data`` of
``breaching/cases`` in github.com/JonasGeiping/breaching, 0.1.2). They are made from a capture here,
so that each of its attacks can run on it.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from attacks.knowledge import LocalSGD
from fedlab.client.federated_data import images_of, network_of
from fedlab.core.errors import BadInput
from fedlab.core.files import write_atomically
from fedlab.integrations.external_network import per_channel
from fedlab.integrations.external_update import match_names, select_parameters
from fedlab.results.folder import RunFolder
from fedlab.server.captures import Capture


def case_of_run(
    run: RunFolder, *, round: int, client: int, labels: Sequence[int] | None = None
) -> dict[str, Any]:
    """Export a kept capture of a run; see ``case_of``.

    Args:
        run: Folder of the run.
        round: Round number, counted from 1.
        client: Partition id.
        labels: Labels of the images, in the order of the local batches.

    Raises:
        BadInput: If no capture was kept, a label is out of range, or breaching has no words for
            the client's training.
    """
    scenario = run.scenario
    data = images_of(scenario)
    return case_of(
        Capture.load(run.captures, round=round, client=client),
        network_of(scenario, data),
        shape=data.shape,
        classes=data.num_classes,
        mean=data.mean,
        std=data.std,
        labels=labels,
    )


def case_of(
    capture: Capture,
    model: nn.Module,
    *,
    shape: tuple[int, int, int],
    classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    labels: Sequence[int] | Tensor | None = None,
    local: LocalSGD | None = None,
) -> dict[str, Any]:
    """Convert a capture to the dictionaries of breaching, made of plain values and tensors.

    Weights after a single step become the gradient of that step, from which breaching infers
    labels; after several steps they become the difference of the weights, with a description of the
    steps. A client in training mode shares no buffers, which is how breaching knows that mode.

    Args:
        capture: The capture.
        model: The network; only the order of its parameters and buffers is used.
        shape: Channels, height and width of an image.
        classes: Number of outputs of the network.
        mean: Mean of the normalisation, one value or one per channel, on pixels in [0, 1].
        std: Standard deviation of the normalisation, one value or one per channel.
        labels: Labels ``[n]``, in the order of the local batches; needed for several local steps.
        local: Local training of the client, in place of the facts of the round.

    Returns:
        ``server_payload`` (``parameters``, ``buffers``, ``metadata``), ``shared_data``
        (``gradients``, ``buffers``, ``metadata``), and ``names`` of the parameters in order.

    Raises:
        BadInput: If the network does not fit, a label is out of range, or breaching has no words
            for the training: momentum, weight decay, FedProx, or missing labels.
    """
    sent = match_names(model, capture.global_state)
    source = f"what the server sent in round {capture.round}"
    before = select_parameters(model, sent, source)
    reply = f"the reply of {capture.of} in round {capture.round}"
    if capture.facts.singled_out is not None:
        raise BadInput(
            f"breaching has no words for {reply}: the last bias in it is not the target's"
        )
    received = select_parameters(model, match_names(model, capture.payload.tensors), reply)
    known = None if labels is None else torch.as_tensor(labels, dtype=torch.int64)
    if known is not None and len(strange := known[(known < 0) | (known >= classes)]):
        raise BadInput(f"label {int(strange[0])} is none of the {classes} classes, counted from 0")
    count = capture.payload.num_examples if known is None else len(known)
    steps = None
    if capture.payload.kind == "weights":
        received, steps = _update(capture, before, received, known, count, local)
    metadata = {
        "shape": list(shape),
        "mean": list(per_channel(tuple(mean), shape[0])),
        "std": list(per_channel(tuple(std), shape[0])),
        "classes": classes,
        "modality": "vision",
        "task": "classification",
    }
    return {
        "server_payload": {
            "parameters": list(before.values()),
            "buffers": _public_buffers(capture, model, sent, source),
            "metadata": metadata,
        },
        "shared_data": {
            "gradients": list(received.values()),
            "buffers": None,
            "metadata": {
                "num_data_points": count,
                "labels": known,
                "local_hyperparams": steps,
                "data_key": "inputs",
            },
        },
        "names": list(before),
    }


def _public_buffers(
    capture: Capture, model: nn.Module, sent: Mapping[str, Tensor], source: str
) -> list[Tensor] | None:
    """The buffers that the attacker knows; ``None`` if the client was in training mode."""
    buffers = [name for name, _ in model.named_buffers() if name in model.state_dict()]
    if buffers and capture.facts.training_mode:
        return None
    if missing := [name for name in buffers if name not in sent]:
        raise BadInput(f"{source} lacks {missing[0]}, which the network has")
    return [sent[name] for name in buffers]


def write_case(case: Mapping[str, Any], path: Path) -> None:
    """Write the result of ``case_of``; ``torch.load(path, weights_only=True)`` reads the file."""
    content = io.BytesIO()
    torch.save(dict(case), content)
    write_atomically(path, content.getvalue())


def read_case(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Read a file of ``write_case``; see ``in_memory``."""
    return in_memory(torch.load(path, weights_only=True))


def in_memory(case: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Convert a case to the arguments of ``reconstruct`` of breaching's attackers.

    Both are lists with one query.

    Example::

        attacker = breaching.attacks.prepare_attack(model, loss, configuration, setup)
        found, _ = attacker.reconstruct(*in_memory(case), server_secrets={})
    """
    payload = dict(case["server_payload"])
    # Breaching reads these as attributes.
    payload["metadata"] = SimpleNamespace(**payload["metadata"])
    return [payload], [dict(case["shared_data"])]


def _update(
    capture: Capture,
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    labels: Tensor | None,
    count: int,
    local: LocalSGD | None,
) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Convert weights to what breaching's users share, and describe the steps that led to them."""
    if local is None:
        try:
            local = capture.facts.local_sgd
        except ValueError as error:
            raise BadInput(f"how the client trained is not known: {error}") from error
    if local.adaptive:
        raise BadInput(f"breaching has no words for {local.optimiser}: it knows plain SGD only")
    steps = local.steps(count)
    if steps == 1:
        # In the first step momentum and the FedProx term are 0.
        decay = local.decay_factor(before.values())
        return {
            name: (start - after[name]) / local.lr - decay * start for name, start in before.items()
        }, None
    if local.momentum or local.weight_decay or local.proximal_mu:
        raise BadInput(
            "breaching knows plain SGD only: it has no words for momentum, weight decay and "
            "FedProx where there are several local steps"
        )
    if labels is None:
        raise BadInput(
            f"breaching needs the labels of all {count} images where there are several local steps"
        )
    if local.epochs > 1 and count % local.batch_size:
        raise BadInput(
            f"breaching has no words for {local.epochs} epochs whose last batch is smaller: "
            f"{count} images in batches of {local.batch_size}"
        )
    return {name: after[name] - start for name, start in before.items()}, {
        "lr": local.lr,
        "steps": steps,
        "data_per_step": local.batch_size,
        "labels": [labels[places] for places in local.blocks(count)],
    }
