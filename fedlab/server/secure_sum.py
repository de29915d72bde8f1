"""Secure aggregation, simulated: of the clients in it the server learns their sum and no more.

The arithmetic of the real protocols (Bonawitz et al. 2017, arXiv 1611.04482) is left out: replies
are summed as soon as they are read. Of a single one is checked whether it can be part of a sum at
all (its shapes, and that its numbers are finite); nothing else looks at it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.payload import Payload
from fedlab.core.errors import BadInput
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import ClassFishing
from fedlab.server.strategies import rule_class
from fedlab.server.traits import LINEAR, traits_of

LEAST = 2
"""Clients in a sum; of fewer the sum would be the reply itself."""


@dataclass(frozen=True)
class Part:
    """What one client puts into the sum.

    Attributes:
        payload: Its reply.
        model: The same as weights, with what else is averaged.
    """

    payload: Payload
    model: Mapping[str, Tensor]


def refuse_what_needs_single_replies(scenario: Scenario) -> None:
    """Refuse a server that could not work with sums where the scenario schedules them.

    Raises:
        BadInput: If the strategy, central clipping, a bound on the claimed number of examples or
            class fishing looks at single replies.
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
    """Those of some clients whose replies are only seen in a sum.

    A client that poisons its update is in it as well: the protocol leaves it no other way.
    """
    return tuple(
        client
        for client in clients
        if any(
            entry.sums_updates for entry in scenario.scheduled_defenses(round=round, client=client)
        )
    )


def summed(parts: list[Part], averaged: Iterable[str]) -> Part:
    """The mean of replies, weighted by their numbers of examples, as one reply.

    Gradients stay one gradient, that of all examples together; anything else becomes weights.

    Args:
        parts: At least ``LEAST``, in order of the clients.
        averaged: Names of what is averaged, in the order that the strategy goes by.
    """
    shares = [part.payload.num_examples for part in parts]
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
        num_examples=sum(shares),
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
