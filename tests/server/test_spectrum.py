"""Singular values of convolutions: against the dense operator, and as a step of the server."""

import numpy as np
import pytest
import torch

from fedlab import Federation
from fedlab.core.errors import BadInput
from fedlab.scenario.tables import Rank
from fedlab.server.spectrum import change_spectrum, later_kernels, singular_values
from tests.federations import finished, small

GRID = 4


def kernel(outputs=3, inputs=2, side=3):
    draws = torch.Generator().manual_seed(0)
    return torch.randn(outputs, inputs, side, side, generator=draws, dtype=torch.float64)


def operator(weights, grid=GRID):
    """The matrix of a convolution with circular padding on images of ``grid`` pixels a side."""
    weights = weights.numpy()
    outputs, inputs, height, width = weights.shape
    matrix = np.zeros((outputs, grid, grid, inputs, grid, grid))
    for y, x, i, j in np.ndindex(grid, grid, height, width):
        matrix[:, (y + i) % grid, (x + j) % grid, :, y, x] += weights[:, :, i, j]
    return matrix.reshape(outputs * grid**2, inputs * grid**2)


def all_values(weights, grid=GRID):
    """Singular values of all frequencies of a grid, those with another sign included."""
    half = singular_values(weights, grid)
    mirrored = half[:, 1 : grid - grid // 2]
    return np.sort(torch.cat([half.flatten(), mirrored.flatten()]).numpy())


@pytest.mark.parametrize("grid", [4, 5])
def test_values_are_those_of_the_dense_operator(grid):
    expected = np.sort(np.linalg.svd(operator(kernel(), grid), compute_uv=False))
    np.testing.assert_allclose(all_values(kernel(), grid), expected, atol=1e-10)


@pytest.mark.parametrize(
    ("change", "bound", "expected"),
    [
        ("min", 3.0, lambda values: np.where(values < 3, 0, values)),
        ("max", 3.0, lambda values: np.minimum(values, 3)),
    ],
)
def test_change_of_a_whole_grid_is_exact(change, bound, expected):
    weights = kernel(side=GRID)  # as large as the grid, so that nothing is cut off
    before = all_values(weights)
    assert before[0] < 3 < before[-1]
    after = change_spectrum(weights, Rank(change=change, bound=bound, grid=GRID))
    assert after.shape == weights.shape
    np.testing.assert_allclose(all_values(after), np.sort(expected(before)), atol=1e-10)


@pytest.mark.parametrize(("change", "bound"), [("min", 1e-9), ("max", 1e9)])
def test_bounds_beyond_all_values_change_nothing(change, bound):
    for side in (1, 3, 5):
        weights = kernel(side=side)
        after = change_spectrum(weights, Rank(change=change, bound=bound, grid=8))
        torch.testing.assert_close(after, weights, rtol=1e-12, atol=1e-12)


def test_usual_bounds_are_those_of_the_public_code():
    assert (Rank(change="min").limit, Rank(change="max").limit) == (0.5, 1.5)
    assert Rank(change="max", bound=0.2).limit == 0.2


def test_first_convolution_and_other_layers_stay():
    scenario = small("rounds=1", "data.train=80")
    plain = finished(scenario).state
    rank = {"change": "min", "bound": 1.0, "grid": 8}
    changed = finished(scenario.changed(server={"rank": rank})).state
    (later,) = later_kernels(plain, plain)
    assert later == "3.weight"
    for name, value in plain.items():
        expected = change_spectrum(value, Rank(**rank)) if name == later else value
        assert torch.equal(changed[name], expected), name
    assert not torch.equal(changed[later], plain[later])


def test_change_comes_every_so_many_rounds():
    scenario = small(server={"rank": {"change": "max", "bound": 0.01, "grid": 8, "every": 2}})
    federation, largest = Federation(scenario), []
    for _ in range(2):
        federation.step()
        largest.append(float(singular_values(federation.state["3.weight"], 8).max()))
    assert largest[0] > 1 > 0.1 > largest[1]


def test_resumed_run_goes_on_with_the_changed_weights(tmp_path):
    rank = {"change": "min", "grid": 8}
    scenario = small(server={"rank": rank, "strategy": "FedAvgM"}, rounds=3)
    whole = finished(scenario).state
    first = Federation(scenario, out=tmp_path / "run")
    first.step()
    del first
    resumed = Federation.resume(tmp_path / "run")
    resumed.run()
    assert all(torch.equal(value, resumed.state[name]) for name, value in whole.items())


def test_network_without_later_convolutions_is_refused():
    scenario = small(model={"name": "mlp", "width": 8}, server={"rank": {"change": "min"}})
    with pytest.raises(BadInput, match=r"server\.rank changes the convolutions after the first"):
        Federation(scenario)
