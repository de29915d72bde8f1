"""A linear classifier inside of a ReLU network is a minimum, and not the best one."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from fedlab.evaluation.curvature import curvature
from fedlab.models.linear_embedding import embed_linear
from fedlab.models.starts import relu_activity


@pytest.fixture(scope="module")
def rings():
    """Points whose class is whether they are near 0, which no line can tell: inputs and labels."""
    draws = torch.Generator().manual_seed(0)
    points = torch.randn(120, 1, 1, 2, generator=draws, dtype=torch.float64).clamp(-1.9, 1.9)
    return points, (points.flatten(1).norm(dim=1) < 1).long()


@pytest.fixture(scope="module")
def best(rings):
    """The best linear classifier of the points."""
    linear = nn.Linear(2, 2).double()
    optimizer = torch.optim.LBFGS(
        linear.parameters(),
        max_iter=200,
        tolerance_grad=1e-10,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def loss():
        optimizer.zero_grad()
        value = functional.cross_entropy(linear(rings[0].flatten(1)), rings[1])
        value.backward()
        return value

    optimizer.step(loss)
    return linear


@pytest.mark.parametrize("hidden", [1, 3])
def test_network_computes_the_linear_classifier(rings, best, hidden):
    network = embed_linear(best.weight, best.bias, hidden=hidden, shift=2.0)
    torch.testing.assert_close(network(rings[0]), best(rings[0].flatten(1)))
    assert relu_activity(network, rings[0]).active == 1


def test_best_linear_classifier_is_a_minimum(rings, best):
    network = embed_linear(best.weight, best.bias, hidden=2, shift=2.0)
    found = curvature(network, *rings, generator=torch.Generator().manual_seed(1))
    assert found.gradient_norm < 1e-6
    assert found.smallest > -1e-6
    assert found.largest > 0.1


def test_another_linear_classifier_is_no_minimum(rings, best):
    network = embed_linear(2 * best.weight, best.bias, hidden=2, shift=2.0)
    found = curvature(network, *rings, generator=torch.Generator().manual_seed(1))
    assert found.gradient_norm > 1e-3


def test_minimum_is_not_the_best_of_the_architecture(rings, best):
    stuck = embed_linear(best.weight, best.bias, hidden=1, shift=2.0)
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)).double()
    losses = []
    for network in (stuck, wide):
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        for _ in range(500):
            optimizer.zero_grad()
            loss = functional.cross_entropy(network(rings[0]), rings[1])
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    linear = functional.cross_entropy(best(rings[0].flatten(1)), rings[1]).item()
    assert losses[0] == pytest.approx(linear, abs=1e-3)
    assert losses[1] < 0.8 * linear
