"""The core of attacks on anybody's updates: what went out, what came back, and their network."""

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from attacks.knowledge import MOST_IMAGES, Knowledge
from attacks.payload import Payload
from attacks.reconstruction import AttackSettings, Reconstruction, invert
from attacks.reconstruction.defended import adapted
from attacks.reconstruction.watch import Watch
from fedlab.core.errors import BadInput
from fedlab.models import build
from fedlab.models.checks import misfit
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import Reconstruct

Kind = Literal["gradient", "weights", "difference"]
"""What a reply holds: the gradient of one batch, weights after training, or these less those that
were sent."""

Network = nn.Module | Callable[..., nn.Module] | str
"""A module; what makes one of ``shape`` and ``classes``; or its name, as ``model.name`` or as
``package.module:function``."""


@dataclass(frozen=True)
class Exchange:
    """What went out and what came back, by name.

    Attributes:
        kind: Of the reply.
        sent: Parameters and buffers.
        received: New ones, what they differ by, or the gradient; buffers are left aside.
        source: What to call the former where something is wrong with it.
        reply: What to call the latter.
    """

    kind: Kind
    sent: Mapping[str, Tensor] = field(repr=False)
    received: Mapping[str, Tensor] = field(repr=False)
    source: str
    reply: str


def rebuild(
    model: nn.Module,
    exchange: Exchange,
    knowledge: Knowledge,
    attack: AttackSettings,
    *,
    adapt: bool,
    seed: int,
    device: torch.device,
    seconds: float | None,
    workers: int,
    watch: Watch | None,
) -> Reconstruction:
    """Rebuild images from an exchange.

    Args:
        model: The network of both sides, moved to the device; its weights do not matter.
        exchange: Tensors by name, buffers beside the parameters or not.
        knowledge: What else is assumed to be known.
        attack: Settings.
        adapt: Whether to re-tune them for defenses that are known, or seen in the reply.
        seed: Of the starting images.
        device: Where to compute.
        seconds: Time budget.
        workers: Restarts that run at the same time.
        watch: Called now and then with the progress.

    Raises:
        BadInput: If parameters are missing, the learning rate of weights is not known, or there
            are too many images.
        ValueError: If the reply cannot be attacked for another reason, see ``invert``.
    """
    known, count = knowledge, knowledge.num_images
    if exchange.kind != "gradient" and known.local is None:
        raise BadInput("weights can only be attacked if the client's learning rate is known")
    if count > MOST_IMAGES:
        raise BadInput(
            f"{exchange.reply} averages {count} images; more than {MOST_IMAGES} are not attacked, "
            "since what comes out would only be noise"
        )
    model = model.to(device)
    sent = named(model, exchange.sent)
    parameters_of(model, sent, exchange.source)
    reply = parameters_of(model, named(model, exchange.received), exchange.reply)
    if exchange.kind == "difference":
        reply = weights_after(sent, reply)
    sent = {name: tensor.to(device) for name, tensor in sent.items()}
    payload = Payload(
        "gradient" if exchange.kind == "gradient" else "weights",
        reply,
        num_examples=count,
        steps=known.local.steps(count) if known.local else 1,
    ).to(device)
    if known.labels is not None:
        known = replace(known, labels=known.labels.to(device))
    return invert(
        model,
        sent,
        payload,
        known,
        adapted(attack, payload, known, sent=sent) if adapt else attack,
        generator=torch.Generator().manual_seed(seed),
        seconds=seconds,
        workers=workers,
        watch=watch,
    )


def reconstruction_entry(settings: Mapping[str, Any]) -> Reconstruct:
    """Settings of an attack as a scenario's entry; those that are ``None`` are left alone.

    Raises:
        BadInput: If one is unknown or wrong.
    """
    given = {key: value for key, value in settings.items() if value is not None}
    (entry,) = Scenario().changed(reconstructions=[given]).reconstructions
    return entry


def network_of(model: Network, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The network that was meant, on the CPU; a copy of one that was handed over.

    Raises:
        BadInput: If it is none, or not one for such images and as many classes.
    """
    if isinstance(model, str):
        factory = model if ":" in model else None
        return build("factory" if factory else model, shape=shape, classes=classes, factory=factory)
    if isinstance(model, nn.Module):
        made = copy.deepcopy(model)
    elif not isinstance(made := model(shape=shape, classes=classes), nn.Module):
        raise BadInput(f"model must make a torch.nn.Module, not {type(made)}")
    made = made.cpu()
    if problem := misfit(made, shape, classes):
        raise BadInput(f"model: {problem}")
    return made


def per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """A value for each channel, of which one may stand for all.

    Raises:
        BadInput: If there are neither one nor as many.
    """
    if len(values) not in (1, channels):
        raise BadInput(f"mean and std need 1 or {channels} values, not {len(values)}")
    return values * channels if len(values) == 1 else values


_WRAPPED = re.compile(r"(_orig_mod|module|_module)\.")
"""What ``torch.compile``, ``DataParallel`` and Opacus put in front of every name."""


def named(model: nn.Module, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Tensors by the names that the network has for them.

    Flower keeps NumPy arrays as a numbered list: one as long as the ``state_dict`` is one of it,
    and a shorter one of the parameters. Wrapped networks have a word in front of their names.
    """
    state = list(model.state_dict())
    while tensors and not set(state) & set(tensors) and all(map(_WRAPPED.match, tensors)):
        tensors = {name.partition(".")[2]: tensor for name, tensor in tensors.items()}
    parameters = [name for name, _ in model.named_parameters()]
    places = [str(place) for place in range(len(tensors))]
    if not tensors or set(tensors) != set(places) or not set(state).isdisjoint(places):
        return tensors
    names = next((each for each in (state, parameters) if len(each) == len(places)), places)
    return {name: tensors[place] for name, place in zip(names, places, strict=True)}


def weights_after(
    sent: Mapping[str, Tensor], difference: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The weights that a reply of differences leads to.

    Raises:
        BadInput: If something was not sent that it could be added to.
    """
    for name, tensor in difference.items():
        if name not in sent or sent[name].shape != tensor.shape:
            raise BadInput(f"what was sent has no {name} of {[*tensor.shape]} to add a change to")
    return {name: sent[name] + tensor for name, tensor in difference.items()}


def parameters_of(
    model: nn.Module, tensors: Mapping[str, Tensor], source: str
) -> dict[str, Tensor]:
    """The parameters alone, in the order of the layers.

    A file has its names sorted, and a ``state_dict`` has buffers beside them, such as the counters
    and running statistics of BatchNorm; only here, where the network is known, are they told apart.

    Args:
        model: Says which they are.
        tensors: By name.
        source: What to call the tensors where one is missing.

    Raises:
        BadInput: If one is missing.
    """
    names = [name for name, _ in model.named_parameters()]
    if missing := [name for name in names if name not in tensors]:
        raise BadInput(f"{source} lacks {missing[0]}, which the network has")
    return {name: tensors[name] for name in names}
