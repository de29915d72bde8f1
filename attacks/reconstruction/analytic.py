"""Inputs of a biased fully connected layer, solved for instead of searched for.

One input: Geiping et al., "Inverting Gradients" (arXiv 2003.14053), proposition 3.1 and section 5.
Batches: Dimitrov et al., "SPEAR: Exact Gradient Inversion of Batches in Federated Learning"
(arXiv 2403.03945).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

TOLERANCE = 1e-6
"""Relative rounding error of a float32 gradient, with some room; a weight update has more."""

SEARCHES, SEARCHES_AT_A_TIME = 2**16, 2**11
"""Sets of units tried on a batch: enough for about 12 images, in seconds on a CPU."""

LARGEST_BATCH = 20
"""Above it not one of the searches can be expected to succeed, at half the units silent."""

SILENT = 0.1
"""Share of units that must be silent for a sample, about 0.5 after a ReLU; none after a sigmoid."""

CHANCE = 3
"""Rows that may agree by chance beyond those that a mixture can choose; groups must be larger."""

ALIKE = 0.01
"""Share of rows with one ratio that gives a mixture away; samples of one class come close to it."""

PATIENCE = 8
"""Rounds of draws that may find nothing new."""

INDEPENDENT = 1e-3
"""Sine of the angle to a space from which on a direction counts as outside it."""


@dataclass(frozen=True)
class Recovered:
    """What a layer's gradient says about its inputs.

    Attributes:
        inputs: float32 ``[n, ...]``, in no particular order; those that are exact come first.
        exact: bool ``[n]``: whether an input passes the test for being that of one sample alone.
            The others are mixtures of several.
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
) -> Recovered:
    """Images behind the gradient of a network that starts with a fully connected layer.

    Args:
        model: The architecture; its weights do not matter.
        gradient: By parameter name, at whatever scale: a weight update of one step will do.
        image_shape: Channels, height, width.
        num_images: Images in the batch.
        low: Smallest normalised pixel, shaped to broadcast to images; ``None`` for no box.
        high: Largest, likewise.
        tolerance: As for ``invert_linear``.

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
    )
    return Recovered(found.inputs.view(num_images, *image_shape), found.exact)


def first_linear(model: nn.Module, parameters: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """Names of weight and bias of a first layer that is fully connected, if there is one.

    Decided from the order of ``model.named_modules()``: before the layer there may be only
    ``nn.Flatten`` and ``nn.Identity``, and containers without parameters of their own. That is not
    what runs: a ``forward`` that uses its modules in another order, or computes something on its
    own before the first, is not seen.

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
    """Why the images cannot be solved for, where ``first_linear`` finds nothing."""
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
) -> Recovered:
    """Inputs of a fully connected layer, from its gradient alone.

    With y = A x + b, whatever follows, sample j adds d_ij x_j to row i of dL/dA and d_ij to
    dL/db_i, where d = dL/dy.

    One input: every row is a multiple of it; least squares over rows,
    x = sum_i db_i dA_i / sum_i db_i^2, weighs them by how much they can be trusted.

    A batch, if d has zeros, as a ReLU after the layer gives it: dA = D X^T has rank n, and column
    d_j of D is the vector of the column space with as many zeros as sample j has silent units.
    SPEAR draws n - 1 rows at a time; those in which j happens to be silent fix d_j up to scale,
    and the bias gradient gives the scale. The chance of a draw falls as 2^-n, so it ends at about
    12 images; also at inputs that depend on each other linearly, and at fewer pixels than images.
    Failing that, rows dA_i / db_i that agree with each other are taken for exact, since they come
    from units that are active for one sample only, while mixtures differ.

    What is missing is filled up with other rows, those within the box and of largest db first.

    Args:
        weight_gradient: float ``[out, in]``, at any scale that the bias gradient shares.
        bias_gradient: float ``[out]``.
        num_images: n, at least 1.
        low: Smallest input, shaped to broadcast to ``[n, in]``; ``None`` for no box.
        high: Largest, likewise.
        tolerance: Relative error of the gradient: what comes closer than that is taken for equal.

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
        mean = _mean_input(rows, biases)
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
    found, certain = _disaggregated(rows, biases, num_images, tolerance)
    certain &= _inside(found, low, high, 1e-3)
    if not certain.any():
        found = _agreeing(candidates[inside], tolerance)[:num_images]
        certain = torch.ones_like(found[:, 0], dtype=torch.bool)
    first = (~certain).to(torch.int8).argsort(stable=True)
    rest = (~inside).to(torch.int8).argsort(stable=True)
    inputs = _filled(
        found[first], candidates[rest], _mean_input(rows, biases), num_images, tolerance
    )
    exact = torch.arange(num_images, device=inputs.device) < certain.sum()
    return Recovered(inputs.float(), exact)


def _first_layer(model: nn.Module) -> tuple[str, nn.Module | None]:
    """The first module that does something to the image."""
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


def _mean_input(rows: Tensor, biases: Tensor) -> Tensor:
    return biases @ rows / biases.square().sum()


def _inside(inputs: Tensor, low: Tensor | None, high: Tensor | None, slack: float) -> Tensor:
    """Which inputs are within the box, but for the slack."""
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
    """The exact inputs and enough others, none of them twice while there are others."""
    chosen = list(exact)
    for candidate in candidates:
        if len(chosen) >= num_images:
            break
        near = 10 * tolerance * torch.linalg.norm(candidate)
        if all(torch.linalg.norm(candidate - other) > near for other in chosen):
            chosen.append(candidate)
    chosen += [mean] * (num_images - len(chosen))
    return torch.stack(chosen)


def _disaggregated(
    rows: Tensor, biases: Tensor, num_images: int, tolerance: float
) -> tuple[Tensor, Tensor]:
    """All inputs of a batch by SPEAR, ``[rank, in]``, and which are certain; none if it fails."""
    nothing = rows[:0], biases[:0].bool()
    basis = _row_space(rows, num_images, tolerance)
    if len(basis) == 1:
        return _mean_input(rows, biases).unsqueeze(0), biases.new_ones(1).bool()
    if not 1 < len(basis) <= LARGEST_BATCH:
        return nothing
    coordinates = rows @ basis.T
    norms = torch.linalg.norm(coordinates, dim=1)
    alive = norms > tolerance * norms.max()
    scaled = coordinates[alive] / norms[alive, None]
    directions = _sparse_directions(scaled, tolerance)
    if directions is None:
        return nothing
    scales = torch.linalg.lstsq(coordinates @ directions.T, biases.unsqueeze(1)).solution
    inputs, singular = torch.linalg.solve_ex(directions.T * scales.T, basis)
    if singular:
        return nothing
    return inputs, _certain(scaled, directions, tolerance)


def _row_space(rows: Tensor, largest: int, tolerance: float) -> Tensor:
    """Orthonormal basis ``[rank, in]`` of the rows; none if the rank is above the largest.

    Rank and space are those of a random projection (Halko et al., arXiv 0909.4061), which is
    exact for a low rank and spares decomposing a large matrix.
    """
    width = min(*rows.shape, largest + 4)
    generator = torch.Generator().manual_seed(0)  # any projection does
    probe = torch.randn(len(rows), width, generator=generator, dtype=rows.dtype).to(rows.device)
    sketch = torch.linalg.qr(rows.T @ probe).Q
    _, values, vectors = torch.linalg.svd(rows @ sketch, full_matrices=False)
    rank = int((values > tolerance * values[0]).sum())
    basis: Tensor = vectors[: rank if rank <= largest else 0] @ sketch.T
    return basis


def _sparse_directions(coordinates: Tensor, tolerance: float) -> Tensor | None:
    """Directions along which the most rows vanish, ``[rank, rank]``, or ``None``.

    True columns are sparser than mixtures of them, which vanish only where all their parts do.
    The search ends when all are certain, or rounds of draws have found none sparser.
    """
    units, rank = coordinates.shape
    generator = torch.Generator().manual_seed(0)  # the same answer each time
    best, sparsity, idle = coordinates.new_empty(0, rank), 0, 0
    for _ in range(SEARCHES // SEARCHES_AT_A_TIME):
        draws = torch.randint(units, (SEARCHES_AT_A_TIME, rank - 1), generator=generator)
        # The direction along which all rows of a draw vanish.
        found = torch.linalg.svd(coordinates[draws.to(coordinates.device)]).Vh[:, -1]
        before = sparsity
        best = _sparsest(coordinates, torch.cat([best, found]), tolerance)
        if len(best) < rank:
            continue
        best = _purified(coordinates, best, tolerance)
        sparsity = int(_vanishing(coordinates, best, tolerance).sum())
        idle = idle + 1 if sparsity == before else 0
        if idle == PATIENCE or _certain(coordinates, best, tolerance).all():
            return best
    return best if len(best) == rank else None


def _certain(coordinates: Tensor, directions: Tensor, tolerance: float) -> Tensor:
    """Which inputs, bool ``[rank]``, cannot have been spoiled by a direction that is a mixture.

    A mixture shares a part with another direction, so the ratio of both is the same in all rows
    in which only that part is active: one such pair, and nothing is certain. A direction mixed
    with that of sample j spoils x_j, and can be made to vanish in a row for each of its parts. So
    every other direction has to vanish in more of the rows in which j is active.
    """
    units, rank = coordinates.shape
    mixed = any(
        _commonest(coordinates, one, other, tolerance)[1] > CHANCE + ALIKE * units
        for place, one in enumerate(directions)
        for other in directions[:place]
    )
    silent = _vanishing(coordinates, directions, tolerance).double()
    evidence = (silent.T @ (1 - silent)).fill_diagonal_(torch.inf)
    return (evidence >= rank + CHANCE).all(0) & (not mixed)


def _vanishing(coordinates: Tensor, directions: Tensor, tolerance: float) -> Tensor:
    """Whether, bool ``[units, n]``, a row has nothing along a direction."""
    return (coordinates @ directions.T).abs() <= 10 * tolerance


def _sparsest(coordinates: Tensor, directions: Tensor, tolerance: float) -> Tensor:
    """The sparsest directions that are independent, ``[at most rank, rank]``."""
    units, rank = coordinates.shape
    # A direction vanishes in the rows it was made from: more than chance must be behind it.
    least = max(rank + 2, SILENT * units)
    # A draw of nearly dependent rows magnifies rounding errors: at first a loose test.
    zeros = _vanishing(coordinates, directions, 10 * tolerance).sum(0)
    left = zeros.argsort(descending=True, stable=True)
    left = left[zeros[left] >= least]
    chosen, span = directions[:0], directions[:0]
    while len(left) and len(chosen) < rank:
        refined = _refined(coordinates, directions[left[0]], tolerance)
        rest = refined - span.T @ (span @ refined)
        enough = int(_vanishing(coordinates, refined.unsqueeze(0), tolerance).sum()) >= least
        if enough and torch.linalg.norm(rest) > INDEPENDENT:
            chosen = torch.cat([chosen, refined.unsqueeze(0)])
            span = torch.cat([span, (rest / torch.linalg.norm(rest)).unsqueeze(0)])
        left = left[1:]
        remaining = directions[left] - directions[left] @ span.T @ span
        left = left[torch.linalg.norm(remaining, dim=1) > INDEPENDENT]
    return chosen


def _refined(coordinates: Tensor, direction: Tensor, tolerance: float) -> Tensor:
    """The direction that fits best to all rows that vanish along a given one."""
    for slack in (10 * tolerance, tolerance):  # the second without rows that were only near it
        zeros = _vanishing(coordinates, direction.unsqueeze(0), slack).squeeze(1)
        direction = torch.linalg.svd(coordinates[zeros]).Vh[-1]
    return direction


def _purified(coordinates: Tensor, directions: Tensor, tolerance: float) -> Tensor:
    """Take each direction out of the others as long as that makes them sparser."""
    pure, changed = list(directions), True
    while changed:
        changed = False
        for index, direction in enumerate(pure):
            for other in (*pure[:index], *pure[index + 1 :]):
                better = _without(coordinates, direction, other, tolerance)
                if better is not None:
                    direction = pure[index] = better
                    changed = True
    return torch.stack(pure)


def _without(
    coordinates: Tensor, direction: Tensor, other: Tensor, tolerance: float
) -> Tensor | None:
    """A direction less the multiple of another with which it is sparser; ``None`` if it is pure.

    In a mixture, rows in which only the other part is active all have the same ratio.
    """
    ratio, rows = _commonest(coordinates, direction, other, tolerance)
    silent, silent_too = _vanishing(coordinates, torch.stack([direction, other]), tolerance).T
    if rows < int((silent & ~silent_too).sum()) + CHANCE:
        return None
    less = direction - ratio * other
    less = less / torch.linalg.norm(less)
    if not _sparser(coordinates, less, direction, 10 * tolerance):
        return None
    pure = _refined(coordinates, less, tolerance)
    # Rounding errors can be fitted by a change too small to matter, and a refinement that goes
    # elsewhere would end at a direction that is there already.
    moved, kept = 1 - (pure @ direction).abs(), 1 - (pure @ less).abs()
    if moved < INDEPENDENT**2 or kept > INDEPENDENT:
        return None
    return pure if _sparser(coordinates, pure, direction, tolerance) else None


def _commonest(
    coordinates: Tensor, direction: Tensor, other: Tensor, tolerance: float
) -> tuple[float, int]:
    """The commonest ratio of what rows have along two directions, and how many have it."""
    active = ~_vanishing(coordinates, torch.stack([direction, other]), tolerance).any(1)
    ratios = ((coordinates @ direction)[active] / (coordinates @ other)[active]).sort().values
    if not len(ratios):
        return 0.0, 0
    # How many lie between each ratio and a rounding error above it.
    above = ratios + 100 * tolerance * ratios.abs().clamp(min=1)
    places = torch.arange(len(ratios), device=ratios.device)
    alike = torch.searchsorted(ratios, above, right=True) - places
    start, rows = int(alike.argmax()), int(alike.max())
    return float(ratios[start + rows // 2]), rows


def _sparser(coordinates: Tensor, direction: Tensor, than: Tensor, tolerance: float) -> bool:
    zeros = _vanishing(coordinates, torch.stack([direction, than]), tolerance).sum(0)
    return bool(zeros[0] > zeros[1])
