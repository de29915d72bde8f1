"""Simulated secure aggregation: the server learns the sum of its clients' replies and no more.

The arithmetic of the real protocols (Bonawitz et al. 2017, arXiv 1611.04482) is left out: replies
are summed as soon as they are read. Of a single reply only its shapes are checked, and that its
numbers are finite; nothing else looks at it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.payload import Payload
from fedlab.core.errors import BadInput
from fedlab.protocol.guarantees import changes_noise
from fedlab.protocol.task import ClientTask
from fedlab.scenario.roles import Leaking
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import ClassFishing
from fedlab.server.strategies import rule_class
from fedlab.server.traits import LINEAR, traits_of

LEAST = 2
"""Smallest number of clients in a sum; the sum of one would be its reply."""


@dataclass(frozen=True)
class Part:
    """One client's contribution to a sum.

    Attributes:
        payload: Gradient or weights that the client sent.
        model: Weights that follow from the payload, and shared buffers, by name.
    """

    payload: Payload
    model: Mapping[str, Tensor]


def refuse_what_needs_single_replies(scenario: Scenario) -> None:
    """Refuse a scenario whose server needs single replies although some are seen only as sums.

    Raises:
        BadInput: If the aggregation rule, central clipping, a bound on the claimed number of
            examples or class fishing needs single replies.
    """
    if not any(entry.sums_updates for entry in scenario.defenses):
        return
    server = scenario.server
    if not traits_of(rule_class(server.strategy)).linear:
        raise BadInput(
            f"{server.strategy} compares single replies, which secure aggregation hides: use one "
            f"of {', '.join(LINEAR)}"
        )
    if server.central_dp is not None:
        raise BadInput(
            "server.central_dp clips single replies, which secure aggregation hides: use the "
            "defense clip-noise, which clips at the client"
        )
    for bound in ("max_examples", "cap_examples"):
        if getattr(server, bound) is not None:
            raise BadInput(
                f"server.{bound} looks at what single replies claim, which secure aggregation "
                "hides: leave it out"
            )
    if isinstance(server.malicious, ClassFishing):
        raise BadInput(
            "class fishing sends some clients weights of their own and reads their replies one by "
            "one, which secure aggregation hides: leave one of the two out"
        )


def members(scenario: Scenario, *, round: int, clients: Iterable[int]) -> tuple[int, ...]:
    """Select the clients whose replies the server sees only as a sum.

    A client that poisons its update is among them, since the protocol leaves it no other way.

    Args:
        scenario: The experiment.
        round: Round number, counted from 1.
        clients: Clients to select from.
    """
    return tuple(
        client
        for client in clients
        if any(
            entry.sums_updates for entry in scenario.scheduled_defenses(round=round, client=client)
        )
    )


def too_few(tasks: Sequence[ClientTask]) -> str | None:
    """Why the server must not see the sum of some clients' replies; ``None`` if it may.

    Clients that share noise must be as many as their settings say. Those that do not run the
    defense add no noise, whatever the scenario asks of them, those that poison their update change
    it, and those that send gradients add it in another unit than those that send weights.

    Args:
        tasks: Tasks of the clients in the sum.
    """
    if len(tasks) < LEAST:
        return "nobody else is left in secure aggregation to hide its reply"
    sharing = Counter(
        (isinstance(task.role, Leaking), entry.unscheduled.model_dump_json(), entry.fewest_summed)
        for task in tasks
        for entry in task.defenses
        if entry.fewest_summed > 1 and not changes_noise(task)
    )
    asked = {entry.fewest_summed for task in tasks for entry in task.defenses} - {1}
    if asked and not sharing:
        return "every client of its secure sum that shares noise poisons its update"
    return next(
        (
            f"noise that {fewest} clients must share is shared by {count} in its secure sum"
            for (*_, fewest), count in sharing.items()
            if count < fewest
        ),
        None,
    )


def counts_equally(tasks: Iterable[ClientTask]) -> bool:
    """Whether all clients of a sum count equally, since some of them share noise.

    Noise that is shared covers a client only as far as it counts no more than others.

    Args:
        tasks: Tasks of the clients in the sum.
    """
    return any(entry.fewest_summed > 1 for task in tasks for entry in task.defenses)


def summed(parts: list[Part], averaged: Iterable[str], *, equally: bool = False) -> Part:
    """Average replies, weighted by their numbers of examples, to one reply.

    If all are gradients the result is the gradient of all examples together, otherwise weights.

    Args:
        parts: Contributions of at least ``LEAST`` clients, in order of the clients.
        averaged: Names of the tensors to average, in the order in which the aggregation rule reads
            them.
        equally: Whether all replies count equally instead.
    """
    examples = [part.payload.num_examples for part in parts]
    shares = [1] * len(parts) if equally else examples
    gradients = all(part.payload.kind == "gradient" for part in parts)
    model = _mean([part.model for part in parts], shares)
    tensors = (
        _mean([part.payload.tensors for part in parts], shares)
        if gradients
        else {name: model[name] for name in parts[0].payload.tensors}
    )
    payload = Payload(
        "gradient" if gradients else "weights",
        tensors,
        num_examples=sum(examples),
        steps=max(part.payload.steps for part in parts),
    )
    return Part(payload, {name: model[name] for name in averaged})


def _mean(each: list[Mapping[str, Tensor]], shares: list[int]) -> dict[str, Tensor]:
    total = sum(shares)
    return {
        name: torch.stack(
            [one[name] * (share / total) for one, share in zip(each, shares, strict=True)]
        ).sum(0)
        for name in each[0]
    }
