"""The best assignments of many matrices at once, against scipy's."""

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from attacks.reconstruction.assignment import best_order, least_cost


def costs(batch, rows, columns):
    draws = torch.Generator().manual_seed(10 * rows + columns)
    return torch.randn(batch, rows, columns, generator=draws)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 3), (2, 2), (3, 5), (8, 8)])
def test_least_cost_is_that_of_scipy(rows, columns):
    given = costs(20, rows, columns)
    for cost, found in zip(given, least_cost(given), strict=True):
        places = linear_sum_assignment(cost)
        assert float(found) == pytest.approx(float(cost[places].sum()), abs=1e-5)


def test_gradient_reaches_the_assigned_pairs_alone():
    given = costs(5, 4, 4).requires_grad_()
    least_cost(given).sum().backward()
    for cost, taken in zip(given.detach(), given.grad, strict=True):
        expected = torch.zeros(4, 4)
        expected[linear_sum_assignment(cost)] = 1
        assert torch.equal(taken, expected)


def test_best_order_has_the_least_cost():
    for cost in costs(10, 3, 5):
        found = cost[torch.arange(3), best_order(cost)].sum()
        assert float(found) == pytest.approx(float(least_cost(cost[None])), abs=1e-5)


def test_equal_costs_use_each_column_once():
    assert sorted(best_order(torch.zeros(4, 4)).tolist()) == [0, 1, 2, 3]
