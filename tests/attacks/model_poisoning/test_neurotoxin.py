"""Tests of Neurotoxin's projection against NumPy."""

import numpy as np
import pytest
import torch

from attacks.model_poisoning.neurotoxin import off_heavy_coordinates


def drawn(size, seed):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("size", "share"), [(1000, 0.05), (1000, 0.5), (37, 0.1), (3, 0.01)])
def test_the_heaviest_coordinates_become_zero(size, share):
    change, observed = drawn(size, 0), drawn(size, 1)
    before = change.clone()
    found = off_heavy_coordinates(change, observed, share=share).numpy()
    heavy = np.argsort(-np.abs(observed.numpy()))[: int(np.ceil(share * size))]
    expected = before.numpy().copy()
    expected[heavy] = 0
    np.testing.assert_array_equal(found, expected)
    assert torch.equal(change, before)


def test_of_equal_coordinates_the_first_ones_go():
    found = off_heavy_coordinates(torch.ones(6), torch.full((6,), -2.0), share=0.5)
    assert found.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match="above 0 and below 1"):
        off_heavy_coordinates(torch.ones(4), torch.ones(4), share=share)


def test_changes_of_two_lengths_are_refused():
    with pytest.raises(ValueError, match=r"shapes \(4,\) and \(5,\) do not match"):
        off_heavy_coordinates(torch.ones(4), torch.ones(5), share=0.5)
