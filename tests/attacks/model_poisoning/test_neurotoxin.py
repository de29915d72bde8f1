"""Tests of Neurotoxin's choice of coordinates against NumPy."""

import numpy as np
import pytest
import torch

from attacks.model_poisoning.neurotoxin import light_coordinates


@pytest.mark.parametrize(("size", "share"), [(1000, 0.05), (1000, 0.5), (37, 0.1), (3, 0.01)])
def test_the_heaviest_coordinates_are_left_out(size, share):
    observed = torch.randn(size, generator=torch.Generator().manual_seed(1))
    found = light_coordinates(observed, share=share).numpy()
    expected = np.ones(size, dtype=np.float32)
    expected[np.argsort(-np.abs(observed.numpy()))[: int(np.ceil(share * size))]] = 0
    np.testing.assert_array_equal(found, expected)


def test_of_equal_coordinates_the_first_ones_go():
    assert light_coordinates(torch.full((6,), -2.0), share=0.5).tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match="above 0 and below 1"):
        light_coordinates(torch.ones(4), share=share)
