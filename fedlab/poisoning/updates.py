"""How a poisoning client changes its update, from itself alone or from those of others."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import assert_never

import torch
from torch import Tensor

from attacks.model_poisoning.gaussian import gaussian
from attacks.model_poisoning.inner_product import inner_product
from attacks.model_poisoning.little_is_enough import largest_z, little_is_enough
from attacks.model_poisoning.scaling import scale
from attacks.model_poisoning.sign_flip import sign_flip
from attacks.model_poisoning.vectors import flatten, unflatten
from attacks.model_poisoning.within_spread import min_max, min_sum
from attacks.payload import Payload
from fedlab.poisoning.settings import (
    ConstrainAndScale,
    Gaussian,
    InnerProduct,
    LittleIsEnough,
    MinMax,
    MinSum,
    Scaling,
    SignFlip,
    UpdateSettings,
)


@dataclass(frozen=True)
class Collusion:
    """What colluding clients know in a round.

    Attributes:
        clients: In the cohort.
        malicious: Those among them that collude.
        honest: Gives the honest payloads that they know of, computed when they are asked for.
    """

    clients: int
    malicious: int
    honest: Callable[[], list[Payload]]


def tampered(
    payload: Payload,
    settings: UpdateSettings,
    global_state: Mapping[str, Tensor],
    *,
    ring: Collusion | None,
    generator: torch.Generator,
) -> Payload:
    """The payload as a poisoning client sends it.

    Args:
        payload: What its training gave.
        settings: What it does to it.
        global_state: What it was sent.
        ring: For what is made from honest updates.
        generator: CPU generator of random updates, fresh in every round.

    Raises:
        ValueError: If it knows no honest update.
    """
    match settings:
        case Scaling() | ConstrainAndScale():
            return scale(payload, global_state, settings.factor)
        case SignFlip():
            change = sign_flip(_change(payload, global_state), factor=settings.factor)
        case Gaussian():
            honest = _change(payload, global_state)
            change = settings.factor * gaussian(honest, generator=generator)
        case LittleIsEnough() | InnerProduct() | MinMax() | MinSum():
            if ring is None:
                raise ValueError(f"{settings.attack} needs to know of honest updates")
            known = torch.stack([_change(each, global_state) for each in ring.honest()])
            change = _made_from(known, settings, ring)
        case _:
            assert_never(settings)
    named = unflatten(change, payload.tensors)
    return replace(payload, tensors={n: global_state[n] + named[n] for n in payload.tensors})


def _made_from(
    known: Tensor, settings: LittleIsEnough | InnerProduct | MinMax | MinSum, ring: Collusion
) -> Tensor:
    match settings:
        case LittleIsEnough():
            hidden = largest_z(ring.clients, ring.malicious) if settings.z is None else settings.z
            return little_is_enough(known, z=hidden)
        case InnerProduct():
            return inner_product(known, epsilon=settings.epsilon)
        case MinMax():
            return min_max(known, direction=settings.direction)
        case MinSum():
            return min_sum(known, direction=settings.direction)


def _change(payload: Payload, global_state: Mapping[str, Tensor]) -> Tensor:
    return flatten({name: w - global_state[name] for name, w in payload.tensors.items()})
