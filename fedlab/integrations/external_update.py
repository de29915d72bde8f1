"""Attacks on updates of any federation: tensors that were sent, a reply, and the network."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from attacks.knowledge import Knowledge
from attacks.payload import Payload
from attacks.reconstruction import AttackSettings, Reconstruction, consistency, invert
from attacks.reconstruction.defended import adapted
from attacks.reconstruction.normalisation import misnormalised
from attacks.reconstruction.plausibility import implausible, unexplained
from attacks.reconstruction.problem import Problem
from attacks.reconstruction.watch import Watch
from fedlab.core.errors import BadInput
from fedlab.core.network_errors import naming_network
from fedlab.evaluation.attack_progress import attack_progress
from fedlab.integrations.surrogate_updates import ExternalUpdate
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import Reconstruct
from fedlab.server.attack_memory import refuse_beyond_memory
from fedlab.server.attacker import most_images

log = logging.getLogger(__name__)

Kind = Literal["gradient", "weights", "difference"]
"""Content of a reply: the gradient of one batch, the weights after training, or their difference
from the weights that were sent."""


@dataclass(frozen=True)
class Exchange:
    """The tensors that a server sent and the reply of a client, by name.

    Attributes:
        kind: Content of the reply.
        sent: Parameters and buffers that the server sent.
        received: Tensors of the reply; buffers in it are not used.
        source: Name of the sent tensors in error messages.
        reply: Name of the reply in error messages.
    """

    kind: Kind
    sent: Mapping[str, Tensor] = field(repr=False)
    received: Mapping[str, Tensor] = field(repr=False)
    source: str
    reply: str


@dataclass(frozen=True)
class AttackableUpdate:
    """An update that no run of fedlab made, ready to be attacked.

    Attributes:
        network: The network of client and server; its weights are not used.
        exchange: The tensors that were sent and received.
        knowledge: What the attacker knows beside them.
    """

    network: nn.Module = field(repr=False)
    exchange: Exchange
    knowledge: Knowledge

    @property
    def sent(self) -> Mapping[str, Tensor]:
        """Parameters and buffers that were sent, by their names in the network."""
        return match_names(self.network, self.exchange.sent)

    @property
    def payload(self) -> Payload:
        """Gradient or weights that were received."""
        return _payload_of(self.network, self.exchange, self.knowledge)[1]


@naming_network("the network")
def reconstruct_exchange(
    update: AttackableUpdate,
    attack: AttackSettings,
    *,
    entry: Reconstruct,
    seed: int,
    device: torch.device,
    watch: Watch | None,
) -> Reconstruction:
    """Reconstruct images from an exchange.

    Args:
        update: The update; its network is moved to the device.
        attack: Settings of the attack.
        entry: Budgets of the tuning and of the attack, and whether settings are adapted to
            defenses that are known, or visible in the reply.
        seed: Seed of the first images.
        device: Device of the computation.
        watch: Function that is called now and then with the progress.

    Returns:
        The reconstruction; its ``findings``, which the log reports as well, name assumptions that
        the update or the reconstructed images contradict. Its ``power`` is NaN without public
        images.

    Raises:
        BadInput: If a parameter is missing, the learning rate behind weights is not known, there
            are too many images, or the reply cannot be attacked for another reason.
        NetworkFailed: If the network fails, such as for want of a second derivative.
    """
    try:
        return _reconstructed(update, attack, entry, seed, device, watch)
    except ValueError as error:
        raise BadInput(str(error)) from error


def _reconstructed(
    update: AttackableUpdate,
    attack: AttackSettings,
    entry: Reconstruct,
    seed: int,
    device: torch.device,
    watch: Watch | None,
) -> Reconstruction:
    model, exchange, knowledge = update.network, update.exchange, update.knowledge
    if knowledge.num_images > (most := most_images(entry)):
        raise BadInput(
            f"{exchange.reply} averages {knowledge.num_images} images; more than {most} are not "
            "attacked (most_images)"
        )
    sent, payload, buffers = _payload_of(model, exchange, knowledge)
    model, payload = model.to(device), payload.to(device)
    state = {name: tensor.to(device) for name, tensor in sent.items()}
    if knowledge.labels is not None:
        knowledge = replace(knowledge, labels=knowledge.labels.to(device))
    before = implausible(
        model,
        state,
        payload,
        knowledge,
        generator=torch.Generator().manual_seed(seed),
        buffers=buffers,
    ) or misnormalised(
        model, state, payload, knowledge, generator=torch.Generator().manual_seed(seed)
    )
    for sentence in before:
        log.warning("%s: %s", exchange.reply, sentence)
    external, chosen = ExternalUpdate(model, state, payload, knowledge, seed), attack
    if attack.tunes:
        chosen = external.tuned(attack, entry)
    elif entry.adapt:
        chosen = adapted(attack, payload, knowledge, sent=state)
    refuse_beyond_memory(Problem.of(model, state, payload, knowledge), chosen)
    with attack_progress(chosen, watch) as watching:
        found = invert(
            model,
            state,
            payload,
            knowledge,
            chosen,
            generator=torch.Generator().manual_seed(seed),
            seconds=entry.seconds,
            workers=entry.workers,
            watch=watching,
        )
    after = _unexplained(model, state, payload, knowledge, found)
    for sentence in after:
        log.warning("%s: %s", exchange.reply, sentence)
    return replace(found, findings=(*before, *after), power=external.power(attack, chosen, entry))


def _unexplained(
    model: nn.Module,
    state: Mapping[str, Tensor],
    payload: Payload,
    knowledge: Knowledge,
    found: Reconstruction,
) -> tuple[str, ...]:
    """Signs that reconstructed images do not explain a reply; none where a defense distorts it."""
    if knowledge.defenses or len(found.images) != knowledge.num_images:
        return ()
    images = Problem.of(model, state, payload, knowledge).normalise(found.images)
    labels = found.labels.to(images.device)
    return unexplained(consistency(model, state, payload, knowledge, images, labels))


def _payload_of(
    model: nn.Module, exchange: Exchange, knowledge: Knowledge
) -> tuple[Mapping[str, Tensor], Payload, dict[str, Tensor]]:
    """Check an exchange, and return what was sent, the reply as a payload, and its buffers."""
    count = knowledge.num_images
    if exchange.kind != "gradient" and knowledge.local is None:
        raise BadInput("weights can only be attacked if the client's learning rate is known")
    sent = match_names(model, exchange.sent)
    select_parameters(model, sent, exchange.source)
    received = match_names(model, exchange.received)
    reply = select_parameters(model, received, exchange.reply)
    buffers = {name: tensor for name, tensor in received.items() if name not in reply}
    if exchange.kind == "difference":
        reply = add_difference(sent, reply)
        buffers = {name: sent[name] + b for name, b in buffers.items() if name in sent}
    payload = Payload(
        "gradient" if exchange.kind == "gradient" else "weights",
        reply,
        num_examples=count,
        steps=knowledge.local.steps(count) if knowledge.local else 1,
    )
    return sent, payload, buffers


def reconstruction_entry(settings: Mapping[str, Any]) -> Reconstruct:
    """Make a ``[[reconstructions]]`` entry from settings; those that are ``None`` are left out.

    Raises:
        BadInput: If a setting is unknown or wrong.
    """
    given = {key: value for key, value in settings.items() if value is not None}
    (entry,) = Scenario().changed(reconstructions=[given]).reconstructions
    if entry.rounds_jointly > 1:
        raise BadInput(
            "rounds_jointly is for runs of a scenario; in Python, attacks.reconstruction.invert "
            "takes earlier updates of the same images"
        )
    return entry


_WRAPPED = re.compile(r"(_orig_mod|module|_module)\.")
"""Prefixes of tensor names by ``torch.compile``, ``DataParallel`` and Opacus."""


def match_names(model: nn.Module, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Rename tensors to the names that they have in the network.

    Flower keeps NumPy arrays as a numbered list: a list as long as the ``state_dict`` has all its
    tensors, a shorter one the parameters alone. Wrapped networks put a prefix before every name.

    Args:
        model: The network.
        tensors: Tensors by name or number.
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


def add_difference(
    sent: Mapping[str, Tensor], difference: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Add the differences of a reply to the weights that were sent.

    Raises:
        BadInput: If a tensor was not sent, or has another shape.
    """
    for name, tensor in difference.items():
        if name not in sent or sent[name].shape != tensor.shape:
            raise BadInput(f"what was sent has no {name} of {[*tensor.shape]} to add a change to")
    return {name: sent[name] + tensor for name, tensor in difference.items()}


def select_parameters(
    model: nn.Module, tensors: Mapping[str, Tensor], source: str
) -> dict[str, Tensor]:
    """Select the parameters of a network, in the order of its layers.

    Files sort their names, and a ``state_dict`` contains buffers as well, such as the running
    statistics of BatchNorm; only the network tells them from parameters.

    Args:
        model: The network.
        tensors: Tensors by name.
        source: Name of the tensors in error messages.

    Raises:
        BadInput: If a parameter is missing.
    """
    names = [name for name, _ in model.named_parameters()]
    if missing := [name for name in names if name not in tensors]:
        raise BadInput(f"{source} lacks {missing[0]}, which the network has")
    return {name: tensors[name] for name in names}
