"""Analytic inversion: the inputs of a biased fully connected layer from its gradient.

One input: Geiping et al., "Inverting Gradients" (arXiv 2003.14053), proposition 3.1 and section 5.
Batches: Dimitrov et al., "SPEAR: Exact Gradient Inversion of Batches in Federated Learning"
(arXiv 2403.03945).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from attacks.reconstruction.disaggregation import CHANCE, ROUNDS, disaggregate, mean_input

TOLERANCE = 1e-6
"""Relative rounding error of a float32 gradient with a margin; a weight update has a larger one."""


@dataclass(frozen=True)
class Recovered:
    """Inputs of a layer, recovered from its gradient.

    Attributes:
        inputs: float32 ``[n, ...]``, in no particular order; those that are exact come first.
        exact: bool ``[n]``, True if an input passes the test for being that of one sample alone;
            the others are mixtures of several.
    """

    inputs: Tensor = field(repr=False)
    exact: Tensor


def invert_first_layer(
    model: nn.Module,
    gradient: Mapping[str, Tensor],
    *,
    image_shape: tuple[int, int, int],
    num_images: int,
    low: Tensor | None = None,
    high: Tensor | None = None,
    tolerance: float = TOLERANCE,
    rounds: int = ROUNDS,
) -> Recovered:
    """Images behind the gradient of a network that starts with a fully connected layer.

    Args:
        model: The architecture; its weights are not used.
        gradient: Gradient by parameter name at any scale, such as a weight update of one step.
        image_shape: Channels, height and width of an image.
        num_images: Number of images in the batch.
        low: Smallest normalised pixel, shaped to broadcast to images; ``None`` for no limit.
        high: Largest normalised pixel, shaped to broadcast to images; ``None`` for no limit.
        tolerance: Relative error of the gradient; see ``invert_linear``.
        rounds: Rounds of the search; see ``invert_linear``.

    Returns:
        Normalised images ``[num_images, channels, height, width]``.

    Raises:
        ValueError: If the network does not start with a biased fully connected layer on the
            pixels, or nothing is in its gradient.
    """
    names = first_linear(model, gradient)
    if names is None:
        raise ValueError(why_not(model, gradient))
    weight, bias = (gradient[name] for name in names)
    pixels = math.prod(image_shape)
    if weight.shape[1] != pixels:
        raise ValueError(
            f"{names[0]} takes {weight.shape[1]} values but an image has {pixels}: the layer sees "
            "something made from the image, which is all that its gradient can give"
        )
    found = invert_linear(
        weight,
        bias,
        num_images=num_images,
        low=None if low is None else low.expand(1, *image_shape).flatten(1),
        high=None if high is None else high.expand(1, *image_shape).flatten(1),
        tolerance=tolerance,
        rounds=rounds,
    )
    return Recovered(found.inputs.view(num_images, *image_shape), found.exact)


def first_linear(model: nn.Module, parameters: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """Names of weight and bias of the first layer if it is fully connected, else ``None``.

    The order of ``model.named_modules()`` decides: only ``nn.Flatten``, ``nn.Identity`` and
    containers without their own parameters may come before the layer. A ``forward`` that uses its
    modules in another order, or computes something before the first, is not detected.

    Args:
        model: The architecture.
        parameters: Weights or gradients by name; the layer must be among them.
    """
    name, layer = _first_layer(model)
    if not isinstance(layer, nn.Linear):
        return None
    prefix = f"{name}." if name else ""
    weight, bias = f"{prefix}weight", f"{prefix}bias"
    return (weight, bias) if weight in parameters and bias in parameters else None


def why_not(model: nn.Module, parameters: Mapping[str, Tensor]) -> str:
    """Reason why analytic inversion is impossible where ``first_linear`` returns ``None``."""
    name, layer = _first_layer(model)
    need = "analytic inversion needs a biased nn.Linear on the flattened image as first layer"
    if layer is None:
        return f"{need}, but the network has no layer at all"
    kind = f'{type(layer).__name__} "{name}"' if name else type(layer).__name__
    if not isinstance(layer, nn.Linear):
        return (
            f"{need}, but the network starts with {kind}: no row of a gradient is then an image "
            "times a number, as weights are shared between positions or see something else; "
            "use an attack that searches"
        )
    if layer.bias is None:
        return f"{need}, but {kind} has no bias, whose gradient gives the scale of the image"
    return f"{need}, but the gradient of {kind} is not there: was it frozen?"


def invert_linear(
    weight_gradient: Tensor,
    bias_gradient: Tensor,
    *,
    num_images: int,
    low: Tensor | None = None,
    high: Tensor | None = None,
    tolerance: float = TOLERANCE,
    rounds: int = ROUNDS,
) -> Recovered:
    """Recover inputs of a fully connected layer from its gradient alone.

    With y = A x + b, whatever follows, sample j adds d_ij x_j to row i of dL/dA and d_ij to
    dL/db_i, where d = dL/dy.

    One input: every row is a multiple of it; least squares over rows,
    x = sum_i db_i dA_i / sum_i db_i^2, weighs them by how much they can be trusted.

    A batch, if d has zeros, as a ReLU after the layer gives it: dA = D X^T has rank n, and column
    d_j of D is the vector of the column space with as many zeros as sample j has silent units. The
    search for such vectors fixes d_j up to scale, and the bias gradient gives the scale. The number
    of rounds limits n, and so do inputs that depend on each other linearly and fewer pixels than n.
    Failing that, rows dA_i / db_i that agree with each other are taken for exact, since they come
    from units that are active for one sample only, while mixtures differ.

    What is missing is filled up with other rows, those within the box and of largest db first.

    Args:
        weight_gradient: float ``[out, in]``, at any scale that the bias gradient shares.
        bias_gradient: float ``[out]``.
        num_images: n, at least 1.
        low: Smallest input, shaped to broadcast to ``[n, in]``; ``None`` for no limit.
        high: Largest input, shaped to broadcast to ``[n, in]``; ``None`` for no limit.
        tolerance: Relative error of the gradient; values that differ by less count as equal.
        rounds: Largest number of rounds of 32 searches for a batch, at least 1.

    Returns:
        Inputs ``[n, in]``. No test can exclude that several samples agree by chance, or move
        through the network together; all of them then pass for one.

    Raises:
        ValueError: If the gradients do not fit each other, are zero or not finite, or
            ``num_images`` is below 1.

    Example:
        >>> x, d = torch.tensor([0.5, 0.25]), torch.tensor([2.0, -1.0, 0.0])
        >>> invert_linear(torch.outer(d, x), d, num_images=1).inputs
        tensor([[0.5000, 0.2500]])
    """
    _check(weight_gradient, bias_gradient, num_images)
    rows, biases = weight_gradient.double(), bias_gradient.double()
    if num_images == 1:
        mean = mean_input(rows, biases)
        error = torch.linalg.norm(rows - biases.outer(mean)) / torch.linalg.norm(rows)
        # Zero rows come from a black image, which is exact as well.
        exact = ~(error > 10 * tolerance)
        return Recovered(mean.float().unsqueeze(0), exact.unsqueeze(0))
    # A row of one sample alone is as good at a tiny bias gradient; float32 underflow is not.
    active = biases.abs() > tolerance**2 * biases.abs().max()
    candidates = rows[active] / biases[active].unsqueeze(1)
    order = biases[active].abs().argsort(descending=True, stable=True)
    candidates = candidates[order]
    inside = _inside(candidates, low, high, tolerance)
    found, certain = disaggregate(
        rows, biases, num_images=num_images, tolerance=tolerance, rounds=rounds
    )
    certain &= _inside(found, low, high, 1e-3)
    if not certain.any():
        found = _agreeing(candidates[inside], tolerance)[:num_images]
        certain = torch.ones_like(found[:, 0], dtype=torch.bool)
    first = (~certain).to(torch.int8).argsort(stable=True)
    rest = (~inside).to(torch.int8).argsort(stable=True)
    inputs = _filled(
        found[first], candidates[rest], mean_input(rows, biases), num_images, tolerance
    )
    exact = torch.arange(num_images, device=inputs.device) < certain.sum()
    return Recovered(inputs.float(), exact)


def _first_layer(model: nn.Module) -> tuple[str, nn.Module | None]:
    """The first module that computes something from the image."""
    for name, module in model.named_modules():
        idle = isinstance(module, nn.Flatten | nn.Identity)
        container = next(module.children(), None) is not None
        own = next(module.parameters(recurse=False), None) is not None
        if own or not (idle or container):
            return name, module
    return "", None


def _check(rows: Tensor, biases: Tensor, num_images: int) -> None:
    if num_images < 1:
        raise ValueError("there is no image to recover: num_images is 0")
    if rows.ndim != 2 or biases.shape != rows.shape[:1]:
        raise ValueError(
            f"gradients of a fully connected layer are [out, in] and [out], not "
            f"{list(rows.shape)} and {list(biases.shape)}"
        )
    if not (torch.isfinite(rows).all() and torch.isfinite(biases).all()):
        raise ValueError("the gradient of the layer is not finite")
    if not biases.any():
        raise ValueError("the bias gradient of the layer is zero, so nothing reached its inputs")


def _inside(inputs: Tensor, low: Tensor | None, high: Tensor | None, slack: float) -> Tensor:
    """Mask ``[n]`` of inputs within the limits up to the slack."""
    fits = torch.ones_like(inputs, dtype=torch.bool)
    if low is not None:
        fits &= inputs >= low - slack * (1 + low.abs())
    if high is not None:
        fits &= inputs <= high + slack * (1 + high.abs())
    return fits.all(1)


def _agreeing(candidates: Tensor, tolerance: float) -> Tensor:
    """One of each group of equal candidates, the largest groups first.

    Sorted along one direction equal ones are neighbours, which spares comparing all with all.
    """
    if len(candidates) < 2:
        return candidates[:0]
    places = torch.arange(1, candidates.shape[1] + 1, device=candidates.device)
    direction = torch.sin(places.double() ** 2)  # of no special relation to any image
    ordered = candidates[(candidates @ direction).argsort(stable=True)]
    distance = torch.linalg.norm(ordered[1:] - ordered[:-1], dim=1)
    same = distance <= 4 * tolerance * torch.linalg.norm(ordered[1:], dim=1)
    group = torch.cat([same.new_zeros(1), ~same]).cumsum(0)
    size = torch.bincount(group)
    first = torch.cat([same.new_ones(1), ~same]).nonzero().squeeze(1)
    largest = size.argsort(descending=True, stable=True)
    return ordered[first[largest[size[largest] >= CHANCE]]]


def _filled(
    exact: Tensor, candidates: Tensor, mean: Tensor, num_images: int, tolerance: float
) -> Tensor:
    """The exact inputs and enough others, without duplicates as long as possible."""
    chosen = list(exact)
    for candidate in candidates:
        if len(chosen) >= num_images:
            break
        near = 10 * tolerance * torch.linalg.norm(candidate)
        if all(torch.linalg.norm(candidate - other) > near for other in chosen):
            chosen.append(candidate)
    chosen += [mean] * (num_images - len(chosen))
    return torch.stack(chosen)
