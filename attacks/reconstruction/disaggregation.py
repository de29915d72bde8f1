"""Separation of the inputs behind a fully connected layer's gradient of a batch.

Dimitrov et al., "SPEAR: Exact Gradient Inversion of Batches in Federated Learning" (arXiv
2403.03945): the gradient is a low-rank matrix, and the zeros that a ReLU leaves in one of its
factors say which factors they are. SPEAR draws sets of rows and hopes that a factor vanishes in all
of them, whose chance halves with every image. Beside that, directions are made sparser step by step
here, as in dictionary learning (Qu, Sun and Wright, "Finding a sparse vector in a subspace", arXiv
1412.4659), which separates batches of several times that size.
"""

import torch
from torch import Tensor

ROUNDS, STARTS = 8, 32
"""Rounds of the search on a batch, and the directions that it starts from in each: enough for about
32 images, in seconds on a CPU."""

DRAWS, DRAWN = 2**11, 12
"""Sets of rows that are drawn in each round, and the largest batch in which they are."""

STEPS, COOLING = 60, 0.8
"""Steps of a search, and the factor by which what counts as small shrinks in each."""

SILENT = 0.1
"""Least share of units that are silent for a sample: about 0.5 after a ReLU, 0 after a sigmoid."""

CHANCE = 3
"""Rows that may agree by chance beyond those that a mixture can choose; groups must be larger."""

ALIKE = 0.01
"""Share of rows with one ratio that gives a mixture away; samples of one class come close to it."""

PATIENCE = 8
"""Number of rounds without a new direction after which the search stops."""

INDEPENDENT = 1e-3
"""Least sine of the angle to a space for a direction that counts as outside it."""


def disaggregate(
    rows: Tensor, biases: Tensor, *, num_images: int, tolerance: float, rounds: int = ROUNDS
) -> tuple[Tensor, Tensor]:
    """Recover all inputs of a batch from the gradient of their layer.

    The weight gradient is D X^T with one column of D for each sample, and the bias gradient the sum
    of the columns. A column is a vector of the column space with as many zeros as its sample has
    silent units; its zeros fix it up to scale, and the bias gradient gives the scale.

    It fails without zeros, as after a sigmoid, and on inputs that depend on each other linearly.

    Args:
        rows: float64 ``[out, in]``, weight gradient.
        biases: float64 ``[out]``, bias gradient at the same scale; not all zero.
        num_images: Number of images n, at least 1; duplicate inputs count once.
        tolerance: Relative error of the gradient; values that differ by less count as equal.
        rounds: Largest number of rounds from ``STARTS`` directions each, at least 1.

    Returns:
        Inputs ``[rank, in]`` in no particular order, none on failure; and bool ``[rank]``, True for
        inputs that cannot be mixtures of several.
    """
    nothing = rows[:0], biases[:0].bool()
    basis = _row_space(rows, num_images, tolerance)
    if len(basis) == 1:
        return mean_input(rows, biases).unsqueeze(0), biases.new_ones(1).bool()
    if not len(basis):
        return nothing
    coordinates = rows @ basis.T
    norms = torch.linalg.norm(coordinates, dim=1)
    alive = norms > tolerance * norms.max()
    scaled = coordinates[alive] / norms[alive, None]
    directions = _sparse_directions(scaled, tolerance, rounds)
    if directions is None:
        return nothing
    scales = torch.linalg.lstsq(coordinates @ directions.T, biases.unsqueeze(1)).solution
    inputs, singular = torch.linalg.solve_ex(directions.T * scales.T, basis)
    if singular:
        return nothing
    return inputs, _certain(scaled, directions, tolerance)


def mean_input(rows: Tensor, biases: Tensor) -> Tensor:
    """The input that fits all rows best, ``[in]``: exact if there was only one.

    Args:
        rows: float ``[out, in]``, the weight gradient.
        biases: float ``[out]``, the bias gradient; not all zero.
    """
    return biases @ rows / biases.square().sum()


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


def _sparse_directions(coordinates: Tensor, tolerance: float, rounds: int) -> Tensor | None:
    """Directions along which the most rows vanish, ``[rank, rank]``, or ``None``.

    True columns are sparser than mixtures of them, which vanish only where all their parts do.
    The search ends when all are certain, or rounds have found none sparser.
    """
    generator = torch.Generator().manual_seed(0)  # the same answer each time
    rank = coordinates.shape[1]
    best, sparsity, idle = coordinates.new_empty(0, rank), 0, 0
    for _ in range(rounds):
        searched = _searched(coordinates, best if len(best) < rank else best[:0], generator)
        found = [best, searched, _drawn(coordinates, generator)]
        before = sparsity
        best = _sparsest(coordinates, torch.cat(found), tolerance)
        if len(best) < rank:
            continue
        best = _purified(coordinates, best, tolerance)
        sparsity = int(_vanishing(coordinates, best, tolerance).sum())
        idle = idle + 1 if sparsity == before else 0
        if idle == PATIENCE or _certain(coordinates, best, tolerance).all():
            return best
    return best if len(best) == rank else None


def _drawn(coordinates: Tensor, generator: torch.Generator) -> Tensor:
    """Directions along which all rows of a random draw vanish, ``[n, rank]``."""
    units, rank = coordinates.shape
    if rank > DRAWN:
        return coordinates[:0]
    draws = torch.randint(units, (DRAWS, rank - 1), generator=generator)
    found: Tensor = torch.linalg.svd(coordinates[draws.to(coordinates.device)]).Vh[:, -1]
    return found


def _searched(coordinates: Tensor, known: Tensor, generator: torch.Generator) -> Tensor:
    """Directions along which rows are sparse, from random starts, ``[STARTS, rank]``.

    Each step weighs the rows by 1 / (v^2 + e), where v is what they have along the direction, and
    goes on to the direction along which the weighted rows have least; e shrinks towards 0, so that
    rows with next to nothing come to rule. It ends in some sparse direction, not always a true one.

    Args:
        coordinates: float ``[units, rank]``.
        known: Directions ``[n, rank]``, n below the rank, which the starts avoid more or less.
        generator: CPU generator of the starts.
    """
    # In an orthonormal basis of the column space no direction has more than others in all rows.
    basis, triangle = torch.linalg.qr(coordinates)
    units, rank = basis.shape
    draws = torch.randn(STARTS, rank, generator=generator, dtype=basis.dtype).to(basis.device)
    span = torch.linalg.qr(triangle @ known.T).Q
    away = draws - draws @ span @ span.T
    # Exactly away from n - 1 directions, all searches would start from the same one.
    near = torch.linspace(0, 1, STARTS, dtype=basis.dtype, device=basis.device).unsqueeze(1)
    found = _unit(away) + near * _unit(draws)
    small = 1.0
    for _ in range(STEPS):
        found = _unit(found)
        weights = 1 / ((found @ basis.T).square() + small / units)
        found = torch.linalg.eigh(basis.T @ (weights.unsqueeze(2) * basis)).eigenvectors[:, :, 0]
        small *= COOLING
    return _unit(torch.linalg.solve_triangular(triangle, found.T, upper=True).T)


def _unit(directions: Tensor) -> Tensor:
    """Directions ``[n, rank]`` with a norm of 1."""
    scaled: Tensor = directions / torch.linalg.norm(directions, dim=1, keepdim=True)
    return scaled


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
    # Any direction can be made to vanish in rank - 1 rows: more than chance must be behind it.
    least = max(rank + 2, SILENT * units)
    # A search ends near a direction: at first a loose test.
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
        triangle = torch.linalg.qr(coordinates[zeros], mode="r").R
        direction = torch.linalg.svd(triangle).Vh[-1]
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
