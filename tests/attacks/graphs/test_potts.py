"""Segmentations against brute force and minimum cuts, and the bound below both."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_flow

from attacks.graphs.potts import potts_energy, project_to_simplex, segment
from attacks.graphs.regions import grid_graph, region_graph


def costs_of(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def brute_force(costs, graph, smoothness):
    """Least energy of all label maps of one image."""
    count, _, labels = costs.shape
    maps = torch.tensor(list(product(range(labels), repeat=count))).T
    every = costs.expand(-1, maps.shape[1], -1)
    return float(potts_energy(every, maps, graph, smoothness).min())


def minimum_cut(costs, graph, smoothness, scale=10**5):
    """Least energy for two labels, by scipy, whose capacities are whole numbers."""
    count = len(costs)
    source, sink = count, count + 1
    price = (costs[:, 0] * scale).round().int().numpy()
    edge = (smoothness * graph.weights * scale).round().int().numpy()
    first, second, nodes = graph.first.numpy(), graph.second.numpy(), np.arange(count)
    rows = np.concatenate([np.full(count, source), nodes, first, second])
    columns = np.concatenate([nodes, np.full(count, sink), second, first])
    capacity = np.concatenate([price[:, 1], price[:, 0], edge, edge]).astype(np.int32)
    network = coo_array((capacity, (rows, columns)), shape=(count + 2, count + 2)).tocsr()
    return maximum_flow(network, source, sink).flow_value / scale


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("smoothness", [0.05, 0.2, 1.0])
def test_brute_force_lies_between_the_bounds(smoothness, seed):
    graph, costs = grid_graph(3, 3), costs_of(9, 1, 3, seed=seed)
    best = brute_force(costs, graph, smoothness)
    found = segment(costs, graph, smoothness=smoothness)
    assert float(found.bound) <= best + 1e-6
    assert float(found.energy) >= best - 1e-6
    assert float(found.energy) <= 1.01 * best


def test_regions_with_long_borders_meet_brute_force():
    graph = region_graph(torch.tensor([[0, 0, 1, 1], [0, 2, 2, 1], [3, 3, 2, 2]]))
    costs = costs_of(4, 1, 3) * graph.areas.view(-1, 1, 1)
    best = brute_force(costs, graph, 0.1)
    found = segment(costs, graph, smoothness=0.1, gap=1e-5)
    assert float(found.energy) == pytest.approx(best, rel=1e-5)
    assert float(found.bound) == pytest.approx(best, rel=1e-4)


@pytest.mark.parametrize("smoothness", [0.02, 0.1, 0.4])
def test_two_labels_are_a_minimum_cut(smoothness):
    graph, costs = grid_graph(12, 15), costs_of(180, 1, 2)
    best = minimum_cut(costs, graph, smoothness)
    found = segment(costs, graph, smoothness=smoothness, gap=1e-4)
    assert float(found.energy) == pytest.approx(best, rel=1e-3)
    assert float(found.bound) <= best + 1e-3
    assert float(found.gap) <= 1e-3


def test_units_of_costs_do_not_matter():
    graph, costs = grid_graph(6, 6), costs_of(36, 1, 4)
    found = segment(costs, graph, smoothness=0.2)
    scaled = segment(1024 * costs, graph, smoothness=1024 * 0.2)
    assert torch.equal(scaled.labels, found.labels)
    assert scaled.iterations == found.iterations


def test_two_images_are_segmented_as_one_by_one():
    graph, costs = grid_graph(6, 6), costs_of(36, 2, 3)
    both = segment(costs, graph, smoothness=0.2, gap=0, iterations=100)
    for image in range(2):
        alone = segment(costs[:, [image]], graph, smoothness=0.2, gap=0, iterations=100)
        torch.testing.assert_close(both.energy[image], alone.energy[0], rtol=1e-6, atol=0)
        torch.testing.assert_close(both.bound[image], alone.bound[0], rtol=1e-5, atol=0)


def test_without_smoothness_the_cheapest_label_wins():
    costs = costs_of(9, 1, 3)
    found = segment(costs, grid_graph(3, 3), smoothness=0)
    assert torch.equal(found.labels, costs.argmin(2))
    assert float(found.gap) == pytest.approx(0, abs=1e-6)
    assert float(segment(0 * costs, grid_graph(3, 3), smoothness=1).gap) == 0


@pytest.mark.parametrize(
    ("size", "options", "sentence"),
    [
        (8, {}, "costs of 8 regions do not fit a graph of 9"),
        (9, {"smoothness": -1.0}, "at least 0"),
        (9, {"iterations": 0}, "at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(size, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        segment(costs_of(size, 1, 2), grid_graph(3, 3), **{"smoothness": 1.0} | options)


def test_projection_is_that_by_sorting():
    points = 3 * torch.randn(500, 7, generator=torch.Generator().manual_seed(0))
    high, _ = points.sort(1, descending=True)
    steps = torch.arange(1, 8)
    kept = high - (high.cumsum(1) - 1) / steps > 0
    count = kept.sum(1, keepdim=True)
    level = ((high * kept).sum(1, keepdim=True) - 1) / count
    torch.testing.assert_close(project_to_simplex(points), (points - level).clamp(min=0))
