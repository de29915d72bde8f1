"""Segmentation of a graph by the lifted Potts problem, with a bound on what is left to gain.

Every region v of area a_v gets one of L labels, at the least energy of

    E(l) = sum_v a_v f_v(l_v) + smoothness * sum_{uv} w_uv [l_u != l_v]

The convex relaxation has a point of the simplex for each region. On a graph the box
``|p| <= smoothness * w / 2`` of its dual is as tight as the pairwise sets of Pock, Chambolle,
Bischof and Cremers (CVPR 2009): both are largest at a jump x with sum 0 for the same p. It is
solved by the primal-dual method of Chambolle and Pock with the preconditioners of Pock and
Chambolle (ICCV 2011), as in arXiv 2004.11075.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from attacks.graphs.regions import RegionGraph

CHECKED_EVERY = 25
"""Number of iterations after which bounds are computed, which costs as much as one iteration."""


@dataclass(frozen=True)
class Segmentation:
    """A segmentation and how far from the best one it can be.

    Attributes:
        labels: int64 ``[regions, images]``, from 0.
        energy: float64 ``[images]``, energy of the labels.
        bound: float64 ``[images]``, no segmentation has an energy below it.
        relaxed: float64 ``[images]``, energy of the relaxed solution.
        iterations: Number of iterations.
    """

    labels: Tensor = field(repr=False)
    energy: Tensor
    bound: Tensor
    relaxed: Tensor
    iterations: int

    @property
    def gap(self) -> Tensor:
        """Share of the energy, float64 ``[images]``, by which the best one may be lower."""
        return _share(self.energy, self.bound)


def potts_energy(costs: Tensor, labels: Tensor, graph: RegionGraph, smoothness: float) -> Tensor:
    """Energy of a segmentation.

    Args:
        costs: float ``[regions, images, labels]``, cost ``a_v f_v`` of each label.
        labels: int64 ``[regions, images]``.
        graph: The graph of the regions.
        smoothness: Cost of a border of one pixel side, at least 0.

    Returns:
        float64 ``[images]``.
    """
    data = costs.gather(2, labels.unsqueeze(2)).squeeze(2).double().sum(0)
    jumps = (labels[graph.first] != labels[graph.second]).double()
    return data + smoothness * (graph.weights.double() @ jumps)


def segment(
    costs: Tensor,
    graph: RegionGraph,
    *,
    smoothness: float,
    gap: float = 1e-3,
    iterations: int = 2_000,
) -> Segmentation:
    """Find a segmentation of low energy, and a bound for all others.

    It stops once the rounded labels, or the relaxed problem if rounding costs more, are within
    ``gap`` of the bound. Rescaling costs and smoothness by the same factor changes nothing.

    Args:
        costs: float32 ``[regions, images, labels]``, cost of each label: of the whole region and
            not of a pixel. All images have the same graph.
        graph: The graph of the regions.
        smoothness: Cost of a border of one pixel side, at least 0.
        gap: Share of the energy at which the search ends, at least 0.
        iterations: Largest number of iterations, at least 1.

    Raises:
        ValueError: If the costs do not fit the graph, or a number is out of range.
    """
    count, images, labels = costs.shape
    if count != len(graph.areas):
        raise ValueError(f"costs of {count} regions do not fit a graph of {len(graph.areas)}")
    if not (smoothness >= 0 and gap >= 0 and iterations >= 1):
        raise ValueError("smoothness and gap must be at least 0, and iterations at least 1")
    flat = costs.flatten(1)
    best = costs.argmin(2)
    energy = potts_energy(costs, best, graph, smoothness)
    found = Segmentation(best, energy, costs.amin(2).double().sum(0), energy, 0)
    if not smoothness or not len(graph.first):
        return found
    # Diagonal steps for the differences times smoothness * w: the unit of costs cancels out, and
    # the dual step is as long as half the box.
    half = (smoothness / 2 * graph.weights).unsqueeze(1)
    primal_step = (1 / (smoothness * graph.borders.clamp(min=1))).unsqueeze(1)
    point = torch.nn.functional.one_hot(best, labels).to(costs.dtype).flatten(1)
    ahead = point
    flows = flat.new_zeros(len(graph.first), flat.shape[1])
    for done in range(1, iterations + 1):
        flows = flows.addcmul_(half, graph.differences(ahead)).clamp_(-half, half)
        slope = graph.divergence(flows).add_(flat)
        if done % CHECKED_EVERY == 0 or done == iterations:
            found = _improved(found, costs, point, slope, graph, smoothness, done)
            left = torch.minimum(found.gap, _share(found.relaxed, found.bound))
            if bool((left <= gap).all()):
                break
        moved = torch.addcmul(point, primal_step, slope, value=-1)
        moved = project_to_simplex(moved.view(count, images, labels)).flatten(1)
        ahead, point = torch.sub(2 * moved, point), moved
    return found


def project_to_simplex(points: Tensor) -> Tensor:
    """Nearest points with entries of at least 0 that sum to 1.

    Newton's method for the threshold, which all entries are lowered by; it ends after at most as
    many steps as there are entries (Michelot 1986).

    Args:
        points: float ``[..., entries]``.

    Example:
        >>> project_to_simplex(torch.tensor([0.5, 1.5, -3.0])).round(decimals=4)
        tensor([0., 1., 0.])
    """
    columns = points.movedim(-1, 0).contiguous()  # sums over rows are several times as fast
    level = (columns.sum(0) - 1) / len(columns)
    for _ in columns:
        kept = (columns - level).clamp_(min=0)
        excess = kept.sum(0) - 1
        if float(excess.max()) <= 1e-6:
            break
        level = level + excess / kept.sign_().sum(0)
    return (columns - level).clamp_(min=0).movedim(0, -1).contiguous()


def _improved(
    found: Segmentation,
    costs: Tensor,
    point: Tensor,
    slope: Tensor,
    graph: RegionGraph,
    smoothness: float,
    done: int,
) -> Segmentation:
    """The best labels and bounds of those so far and those of a point and its dual slope."""
    labels = point.view(costs.shape).argmax(2)
    energy = potts_energy(costs, labels, graph, smoothness)
    better = energy < found.energy
    bound = slope.view(costs.shape).amin(2).double().sum(0)
    jumps = graph.differences(point).abs().view(-1, *costs.shape[1:]).sum(2).double()
    relaxed = (costs * point.view(costs.shape)).sum(2).double().sum(0)
    relaxed = relaxed + smoothness / 2 * (graph.weights.double() @ jumps)
    return Segmentation(
        torch.where(better, labels, found.labels),
        torch.minimum(energy, found.energy),
        torch.maximum(bound, found.bound),
        torch.minimum(relaxed, found.relaxed),
        done,
    )


def _share(energy: Tensor, bound: Tensor) -> Tensor:
    """Difference of two energies as a share of the first; 0 for energies of 0."""
    return (energy - bound) / energy.abs().clamp(min=1e-300)
