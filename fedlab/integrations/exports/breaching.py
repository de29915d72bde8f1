"""A Capture as the public attack library breaching takes it.

What its servers send and its users share are dictionaries (``server_payload`` and ``shared_data``
of ``breaching/cases`` in github.com/JonasGeiping/breaching, 0.1.2). Here they are made of what was
captured, so that any of its attackers can be set on a run of ours.
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
from fedlab.integrations.external_update import named, parameters_of, per_channel
from fedlab.results.folder import RunFolder
from fedlab.server.captures import Capture


def case_of_run(
    run: RunFolder, *, round: int, client: int, labels: Sequence[int] | None = None
) -> dict[str, Any]:
    """A kept Capture of a run, in the form of ``case_of``.

    Raises:
        BadInput: If none was kept, a label is of no class, or breaching cannot be told how the
            client trained.
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
    """What breaching's server sent and its user shared, of plain dicts, lists, tensors and numbers.

    Weights after a single step become the gradient of that step, which breaching infers labels
    from; after several they become the difference of the weights with the steps described beside
    it. A client in training mode shares no buffers, by which breaching knows that mode.

    Args:
        capture: What the server saw.
        model: The network, of which only the order of parameters and buffers is taken.
        shape: Channels, height and width of an image.
        classes: Outputs of the network.
        mean: Of the normalisation, per channel, on pixels in [0, 1].
        std: Likewise.
        labels: ``[n]``, in the order of the local batches; needed for several local steps.
        local: The client's training, in place of what was announced.

    Returns:
        ``server_payload`` (``parameters``, ``buffers``, ``metadata``), ``shared_data``
        (``gradients``, ``buffers``, ``metadata``), and ``names`` of the parameters in order.

    Raises:
        BadInput: If the network is another one, a label is of no class, or breaching has no words
            for the training: momentum, FedProx, or labels that it cannot do without.
    """
    sent = named(model, capture.global_state)
    source = f"what the server sent in round {capture.round}"
    before = parameters_of(model, sent, source)
    reply = f"the reply of {capture.of} in round {capture.round}"
    received = parameters_of(model, named(model, capture.payload.tensors), reply)
    known = None if labels is None else torch.as_tensor(labels, dtype=torch.int64)
    if known is not None and len(strange := known[(known < 0) | (known >= classes)]):
        raise BadInput(f"label {int(strange[0])} is none of the {classes} classes, counted from 0")
    count = capture.payload.num_examples if known is None else len(known)
    steps = None
    if capture.payload.kind == "weights":
        received, steps = _update(capture, before, received, known, count, local)
    buffers = [name for name, _ in model.named_buffers() if name in model.state_dict()]
    public = not buffers or not capture.announced.training_mode
    if missing := [name for name in buffers if public and name not in sent]:
        raise BadInput(f"{source} lacks {missing[0]}, which the network has")
    return {
        "server_payload": {
            "parameters": list(before.values()),
            "buffers": [sent[name] for name in buffers] if public else None,
            "metadata": {
                "shape": list(shape),
                "mean": list(per_channel(tuple(mean), shape[0])),
                "std": list(per_channel(tuple(std), shape[0])),
                "classes": classes,
                "modality": "vision",
                "task": "classification",
            },
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


def write_case(case: Mapping[str, Any], path: Path) -> None:
    """Write what ``case_of`` made to a file that ``torch.load(path, weights_only=True)`` reads."""
    content = io.BytesIO()
    torch.save(dict(case), content)
    write_atomically(path, content.getvalue())


def read_case(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Read such a file; see ``in_memory``."""
    return in_memory(torch.load(path, weights_only=True))


def in_memory(case: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The arguments of ``reconstruct`` of breaching's attackers, lists of one query.

    Example::

        attacker = breaching.attacks.prepare_attack(model, loss, configuration, setup)
        found, _ = attacker.reconstruct(*in_memory(case), server_secrets={})
    """
    payload = dict(case["server_payload"])
    # Breaching reads these by attribute, which plain files cannot hold.
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
    """Weights as what breaching's users share, and the steps that led to them."""
    if local is None:
        try:
            local = capture.announced.local_sgd
        except ValueError as error:
            raise BadInput(f"how the client trained is not known: {error}") from error
    steps = local.steps(count)
    if steps == 1:
        # Of a first step momentum is nothing yet, and FedProx pulls to where it already is.
        return {
            name: (start - after[name]) / local.lr - local.weight_decay * start
            for name, start in before.items()
        }, None
    if local.momentum or local.weight_decay or local.proximal_mu:
        raise BadInput(
            "breaching knows plain SGD only: momentum, weight decay and FedProx cannot be told "
            "to it where there are several local steps"
        )
    if labels is None:
        raise BadInput(
            f"breaching needs the labels of all {count} images where there are several local steps"
        )
    if local.epochs > 1 and count % local.batch_size:
        raise BadInput(
            f"breaching cannot be told of {local.epochs} epochs whose last batch is smaller: "
            f"{count} images in batches of {local.batch_size}"
        )
    return {name: after[name] - start for name, start in before.items()}, {
        "lr": local.lr,
        "steps": steps,
        "data_per_step": local.batch_size,
        "labels": [labels[places] for places in local.blocks(count)],
    }
