"""Objectives: distances between a simulated payload and the captured one.

Geiping et al. 2020 (arXiv 2003.14053) introduce the cosine distance; Balunović et al., "Bayesian
Framework for Gradient Leakage" (arXiv 2111.04706) derive the distance that suits each noise.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from attacks.reconstruction.components import MASKS
from attacks.reconstruction.masks import Mask

Objective = Callable[[Mapping[str, Tensor]], Tensor]
"""Function from a simulated payload by parameter name to a differentiable scalar; lower is a better
match."""

ObjectiveFactory = Callable[[Mapping[str, Tensor]], Objective]
"""Function from the captured payload by parameter name to the objective for it."""

ENCODER = "bottleneck.encoder"
"""End of the name of a variational bottleneck's first layer."""

LEAST = 1e-24
"""Smallest squared norm of a simulated payload; a payload of zeros then has a cosine of 0."""


def cosine(target: Mapping[str, Tensor]) -> Objective:
    """One minus the cosine between payloads, all tensors taken as one vector.

    1 - <g, g*> / (||g|| ||g*||), Geiping et al. 2020, eq. 4. The target is normalised once, so an
    evaluation costs one dot product and one norm. The gradient is written out, because autograd
    would pass over all weights several times more; it cannot be differentiated again.

    Args:
        target: The captured payload by parameter name.

    Raises:
        ValueError: If the captured payload is zero or not finite.
    """
    norm = _norm(target)
    return _distance({name: tensor / norm for name, tensor in target.items()})


def misalignment(target: Mapping[str, Tensor]) -> Objective:
    """One minus the cosine to a target that may be zero, whose cosine to everything is 0.

    Args:
        target: Gradient to aim at, by parameter name.
    """
    norm = torch.sqrt(sum_of_squares(target).clamp(min=LEAST))
    return _distance({name: tensor / norm for name, tensor in target.items()})


def _distance(direction: Mapping[str, Tensor]) -> Objective:
    """One minus the cosine to a direction with norm 1."""

    def cost(simulated: Mapping[str, Tensor]) -> Tensor:
        found: Tensor = _Cosine.apply(*direction.values(), *(simulated[name] for name in direction))
        return found

    return cost


class _Cosine(torch.autograd.Function):
    """One minus the cosine between tensors with total norm 1 and simulated ones, in this order."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        half = len(tensors) // 2
        directions, simulated = tensors[:half], tensors[half:]
        along = _dots(simulated, directions)
        scale = torch.rsqrt(_dots(simulated, simulated).clamp(min=LEAST))
        ctx.save_for_backward(*tensors, along, scale)
        return 1 - along * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, along, scale = ctx.saved_tensors
        half = len(tensors) // 2
        # d cost / d g = - d / ||g|| + <g, d> g / ||g||^3
        of_direction, of_simulated = -slope * scale, slope * along * scale**3
        return (None,) * half + tuple(
            torch.addcmul(d * of_direction, g, of_simulated)
            for d, g in zip(tensors[:half], tensors[half:], strict=True)
        )


def layer_cosine(target: Mapping[str, Tensor]) -> Objective:
    """Mean over tensors of one minus the cosine of each tensor.

    This is the option ``simlocal`` of the public code of Geiping et al. 2020. Tensors whose target
    is zero have no direction and are left out.

    Args:
        target: The captured payload by parameter name.

    Raises:
        ValueError: If the captured payload is zero or not finite.
    """
    _norm(target)
    parts = {name: cosine({name: tensor}) for name, tensor in target.items() if tensor.any()}

    def cost(simulated: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([part({name: simulated[name]}) for name, part in parts.items()]).mean()

    return cost


def squared_error(target: Mapping[str, Tensor]) -> Objective:
    """Squared L2 distance, ||g - g*||^2, as in DLG (arXiv 1906.08935); optimal for Gaussian noise.

    Args:
        target: The captured payload by parameter name.

    Raises:
        ValueError: If the captured payload is zero or not finite.
    """
    _norm(target)

    def cost(simulated: Mapping[str, Tensor]) -> Tensor:
        return sum_of_squares({name: simulated[name] - t for name, t in target.items()})

    return cost


def absolute_error(target: Mapping[str, Tensor]) -> Objective:
    """L1 distance, ||g - g*||_1: optimal for Laplace noise (arXiv 2111.04706).

    Args:
        target: The captured payload by parameter name.

    Raises:
        ValueError: If the captured payload is zero or not finite.
    """
    _norm(target)

    def cost(simulated: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([(simulated[n] - t).abs().sum() for n, t in target.items()]).sum()

    return cost


def orthogonal(target: Mapping[str, Tensor]) -> Objective:
    """Mean over tensors of the squared cosine, plus the squared log ratio of the lengths.

    This is all that CENSOR (NDSS 2025) tells of a gradient: what it sends instead is as long as
    the gradient and orthogonal to it, each tensor by itself. Tensors whose target is zero are left
    out.

    Args:
        target: The captured payload by parameter name.

    Raises:
        ValueError: If the captured payload is zero or not finite.
    """
    _norm(target)
    sent = {name: tensor for name, tensor in target.items() if tensor.any()}

    def cost(simulated: Mapping[str, Tensor]) -> Tensor:
        parts = []
        for name, tensor in sent.items():
            found, own = simulated[name].square().sum().clamp(min=LEAST), tensor.square().sum()
            along = (simulated[name] * tensor).sum().square() / (found * own)
            parts.append(along + (found / own).log().square() / 4)  # half the log of the squares
        return torch.stack(parts).mean()

    return cost


def bottleneck(target: Mapping[str, Tensor]) -> Objective:
    """Distance of what noise in a variational bottleneck (PRECODE) does not reach.

    The gradient of the bottleneck's first layer is an outer product with its input, the features of
    an image, whatever the noise: they are read from it, and their relative squared error counts. Of
    a batch it is a random mean of features. One minus the cosine of all tensors before the
    bottleneck is added, to which noise comes through the backward pass alone; those behind it are
    left out, as by Scheliga et al. (arXiv 2208.04767). A simulated client draws noise of its own in
    every iteration, over which the search averages.

    Args:
        target: The captured payload by parameter name.

    Raises:
        ValueError: If the network has no bottleneck, or its gradient is zero or not finite.
    """
    encoder = encoder_of(target)
    if encoder is None:
        raise ValueError("the objective bottleneck needs a network with a variational bottleneck")
    weight, bias = f"{encoder}.weight", f"{encoder}.bias"
    _norm({name: target[name] for name in (weight, bias)})
    features = _input_of(target[weight], target[bias])
    size = features.square().sum().clamp(min=LEAST)
    names = list(target)
    earlier = {name: target[name] for name in names[: names.index(weight)]}
    direction = cosine(earlier) if any(bool(tensor.any()) for tensor in earlier.values()) else None

    def cost(simulated: Mapping[str, Tensor]) -> Tensor:
        own = _input_of(simulated[weight], simulated[bias])
        error = (own - features).square().sum() / size
        return error if direction is None else error + direction(simulated)

    return cost


def encoder_of(target: Mapping[str, Tensor]) -> str | None:
    """Name of the first layer of a network's variational bottleneck, or ``None`` without one.

    Args:
        target: Tensors by parameter name.
    """
    end = ".weight"
    found = (name.removesuffix(end) for name in target if name.endswith(f"{ENCODER}{end}"))
    return next((name for name in found if f"{name}.bias" in target), None)


def masked(
    factory: ObjectiveFactory, target: Mapping[str, Tensor], *, mask: str | Mask
) -> Objective:
    """Restrict an objective to some entries of the payload.

    Args:
        factory: The objective to restrict.
        target: The captured payload by parameter name.
        mask: Choice of the entries, or its name, a key of ``MASKS``.

    Raises:
        ValueError: If no entry is chosen, or the chosen ones are not finite.
    """
    kept = MASKS.resolve(mask)(target)
    restricted = factory({name: tensor * kept[name] for name, tensor in target.items()})

    def cost(simulated: Mapping[str, Tensor]) -> Tensor:
        return restricted({name: simulated[name] * keep for name, keep in kept.items()})

    return cost


def dot(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> Tensor:
    """Dot product of tensors taken as one vector, over the names on the right."""
    return torch.stack([(left[name] * tensor).sum() for name, tensor in right.items()]).sum()


def sum_of_squares(tensors: Mapping[str, Tensor]) -> Tensor:
    """Squared L2 norm of all tensors taken as one vector."""
    return torch.stack([tensor.square().sum() for tensor in tensors.values()]).sum()


def _dots(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """Dot product of tensors in the same order, without a temporary of their size."""
    pairs = zip(left, right, strict=True)
    return torch.stack([torch.dot(one.flatten(), other.flatten()) for one, other in pairs]).sum()


def _input_of(weight: Tensor, bias: Tensor) -> Tensor:
    """Input of a linear layer, of which its weight gradient is the outer product with the bias's.

    Args:
        weight: Gradient of the weights, ``[outputs, inputs]``.
        bias: Gradient of the bias, ``[outputs]``.
    """
    return bias @ weight / bias.square().sum().clamp(min=LEAST)


def _norm(target: Mapping[str, Tensor]) -> float:
    norm = float(torch.sqrt(sum_of_squares(target)))
    if not 0 < norm < float("inf"):
        raise ValueError(f"the captured payload has norm {norm}, so it has no direction to match")
    return norm
