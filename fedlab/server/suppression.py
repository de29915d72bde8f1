"""Gradient suppression in a federation: whom it singles out, and what it leaves of a secure sum."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from attacks.malicious_server.suppression import (
    Separated,
    check_suppression,
    separate,
    suppress,
)
from fedlab.core.errors import BadInput
from fedlab.defenses import Defense
from fedlab.defenses.clip_noise import ClipNoise
from fedlab.defenses.dp_sgd import DPSGD
from fedlab.protocol.round_facts import RoundFacts
from fedlab.protocol.task import ClientTask
from fedlab.protocol.workload import workload
from fedlab.scenario.roles import Leaking
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import Suppression
from fedlab.server.captures import Capture
from fedlab.server.secure_sum import Part, members


def refuse_impossible_suppression(
    scenario: Scenario,
    model: nn.Module,
    shape: tuple[int, int, int],
    sizes: Mapping[int, int],
) -> None:
    """Refuse suppression where there is no secure sum, or the network cannot be suppressed.

    Args:
        scenario: The scenario.
        model: The network, in the mode of the clients.
        shape: Channels, height and width of an image.
        sizes: Number of images of each client.

    Raises:
        BadInput: If the server is to suppress gradients and cannot.
    """
    if not isinstance(scenario.server.malicious, Suppression):
        return
    if not any(entry.sums_updates for entry in scenario.defenses):
        raise BadInput(
            "server.malicious: suppression singles a client out of a secure sum, and every reply "
            "is seen alone: add the defense secure-aggregation"
        )
    if scenario.training.share_buffers:
        raise BadInput(
            "server.malicious: suppressed clients would send useless BatchNorm statistics, which "
            "cannot be told from the target's in the sum: set training.share_buffers = false"
        )
    if scenario.training.norm_target:
        raise BadInput(
            "server.malicious: the weights of suppressed clients grow towards "
            "training.norm_target, which is not subtracted from the sum: leave one of the two out"
        )
    if scenario.training.weight_decay and _unlike_steps(scenario, sizes):
        raise BadInput(
            "server.malicious: weight decay shrinks the weights of suppressed clients once in each "
            "local step, and from the sum of clients with unlike numbers of steps it cannot be "
            "subtracted: set training.weight_decay = 0, or give all clients one role and equally "
            "many images"
        )
    if scenario.audit is not None:
        raise BadInput(
            "server.malicious: an audit scores what all clients of a sum sent, of which "
            "suppression leaves one: leave the table [audit] or suppression out"
        )
    try:
        check_suppression(model, shape=shape, generator=torch.Generator().manual_seed(0))
    except ValueError as error:
        raise BadInput(f"server.malicious: {error}") from error


def _unlike_steps(scenario: Scenario, sizes: Mapping[int, int]) -> bool:
    """Whether clients of a round send weights after unlike numbers of steps, or gradients."""
    for round in range(1, scenario.rounds + 1):
        roles = {client: scenario.role(round=round, client=client) for client in sizes}
        kinds = {
            (isinstance(role, Leaking), workload(role, scenario.training, sizes[client]).steps)
            for client, role in roles.items()
        }
        if len(kinds) > 1:
            return True
    return False


def target_of(scenario: Scenario, tasks: Mapping[int, ClientTask]) -> int | None:
    """The client that is singled out of the secure sum of a round.

    Args:
        scenario: The experiment as it is in the round.
        tasks: Task of each client of the round.

    Returns:
        ``None`` if nobody is suppressed: the target is not in the cohort or not in the sum, or
        nobody else is.
    """
    round = next(iter(tasks.values())).round
    together = members(scenario, round=round, clients=tasks)
    targets = (
        client
        for client in together
        if isinstance(scenario.malicious_attack(round=round, client=client), Suppression)
    )
    return next(targets, None) if len(together) > 1 else None


def suppressed_state(state: Mapping[str, Tensor], parameters: Iterable[str]) -> dict[str, Tensor]:
    """The state that clients other than the target are sent.

    Args:
        state: Global parameters and buffers by name.
        parameters: Names of the parameters, in the order of the layers.
    """
    return {**state, **suppress({name: state[name] for name in parameters})}


def singled_out(capture: Capture) -> Capture:
    """The capture of a suppressed sum as one of the target alone; others stay as they are.

    Its payload lacks the bias of the last layer, in which the sum holds gradients of all clients.

    Args:
        capture: What the server saw.

    Raises:
        ValueError: If the target sent nothing, so that there is nothing in the sum.
    """
    target = capture.facts.singled_out
    if target is None or capture.clients == (target,):
        return capture
    if target not in capture.clients:
        raise ValueError(
            f"client {target} sent nothing in round {capture.round}, and the gradients of the "
            "others in the sum were suppressed"
        )
    return replace(capture, clients=(target,), payload=_separated(capture).payload)


def with_noise_of_all(defenses: Sequence[Defense], facts: RoundFacts) -> tuple[Defense, ...]:
    """The defenses of a client with the noise that the attacker finds on its update.

    In a suppressed sum that is the noise of all its clients; otherwise nothing changes. Only
    DP-SGD and clip-noise state their noise.

    Args:
        defenses: Defenses of the client.
        facts: Facts of its round; see ``suppressed_facts``.
    """
    if facts.singled_out is None:
        return tuple(defenses)
    changed: list[Defense] = []
    for entry in defenses:
        if isinstance(entry, ClipNoise):
            noise = facts.update_noise / entry.clipping_norm
            entry = entry.model_copy(update={"noise_multiplier": noise, "noise_shared_by": 1})
        elif isinstance(entry, DPSGD):
            entry = entry.model_copy(update={"noise_multiplier": facts.noise_multiplier})
        changed.append(entry)
    return tuple(changed)


def part_of_target(capture: Capture, whole: Part) -> Part:
    """The sum as it would be if suppressed clients had sent the weights of the round unchanged.

    So the attack costs the global model the updates of these clients and no more. The last layer's
    bias stays as it was, since the target's change of it is not known.

    Args:
        capture: The suppressed sum.
        whole: Its part in the aggregate, of which only the names are kept.
    """
    start = capture.global_state
    model = {name: start[name] for name in whole.model}
    if capture.facts.singled_out in capture.clients:
        found = _separated(capture)
        own = found.payload.as_weights(start, lr=capture.facts.lr)
        for name, weights in own.items():
            model[name] = start[name] + found.share * (weights - start[name])
    return Part(whole.payload, model)


def _separated(capture: Capture) -> Separated:
    facts = capture.facts
    return separate(
        capture.payload,
        capture.global_state,
        local=facts.local_sgd,
        num_images=facts.batch_size,
        single_batch=facts.single_batch,
        share=facts.share,
    )
