"""Graphs of regions against plain loops and against the total variation of pixels."""

import pytest
import torch

from attacks.graphs.regions import graph_variation, grid_graph, region_graph, region_means
from attacks.reconstruction.priors import total_variation

REGIONS = torch.tensor([[0, 0, 1, 1], [0, 2, 2, 1], [3, 3, 2, 2]])


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_borders_are_counted_in_sides_of_pixels():
    graph = region_graph(REGIONS)
    found = torch.stack([graph.first, graph.second, graph.weights.long()], 1).tolist()
    assert found == [[0, 1, 1], [0, 2, 2], [0, 3, 1], [1, 2, 3], [2, 3, 2]]
    assert graph.areas.tolist() == [3, 3, 4, 2]
    assert graph.borders.tolist() == [4, 4, 7, 3]


def test_variation_on_the_grid_is_that_of_pixels():
    image = draws(1, 3, 6, 7)
    found = graph_variation(image.flatten(2)[0].T, grid_graph(6, 7))
    right = (image[..., 1:] - image[..., :-1]).abs().sum()
    down = (image[..., 1:, :] - image[..., :-1, :]).abs().sum()
    assert float(found) == pytest.approx(float(right + down), rel=1e-6)
    square = draws(1, 1, 5, 5)
    found = graph_variation(square.flatten(2)[0].T, grid_graph(5, 5)) / 20  # pairs each way
    assert float(found) == pytest.approx(float(total_variation(square)), rel=1e-6)


def test_region_images_vary_alike_on_both_graphs():
    values = draws(4, 2)
    coarse = graph_variation(values, region_graph(REGIONS))
    fine = graph_variation(values[REGIONS.flatten()], grid_graph(3, 4))
    assert float(coarse) == pytest.approx(float(fine), rel=1e-6)


def test_divergence_is_the_adjoint_of_differences():
    graph = region_graph(REGIONS)
    values, flows = draws(4, 3), draws(len(graph.first), 3, seed=1)
    left, right = (
        (graph.differences(values) * flows).sum(),
        (values * graph.divergence(flows)).sum(),
    )
    assert float(left) == pytest.approx(float(right), rel=1e-5)


def test_regions_of_two_images_do_not_touch():
    both = region_graph(torch.stack([REGIONS, REGIONS + 4]))
    assert len(both.first) == 2 * len(region_graph(REGIONS).first)
    assert bool(((both.first < 4) == (both.second < 4)).all())


def test_means_and_their_gradient():
    pixels = draws(12, 2).double().requires_grad_()
    areas = region_graph(REGIONS).areas
    assert torch.autograd.gradcheck(lambda x: region_means(x, REGIONS.flatten(), areas), pixels)
    means = region_means(pixels, REGIONS.flatten(), areas)
    torch.testing.assert_close(means[2], pixels[REGIONS.flatten() == 2].mean(0))


@pytest.mark.parametrize("regions", [torch.zeros(3, 4, dtype=torch.int64), torch.tensor([[0]])])
def test_a_single_region_has_no_edges(regions):
    graph = region_graph(regions)
    assert len(graph.first) == 0
    assert graph.divergence(torch.zeros(0, 2)).tolist() == [[0, 0]]
