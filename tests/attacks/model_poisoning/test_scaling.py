"""Tests of scaling an update."""

import numpy as np
import pytest
import torch

from attacks.model_poisoning.scaling import scale


@pytest.mark.parametrize("factor", [10.0, -1.0, 0.5])
def test_scaling_multiplies_the_change(factor):
    start, sent = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([1.5, -2.5, 0.0])
    weights = start + scale(sent - start, factor=factor)
    before, after = start.numpy(), sent.numpy()
    np.testing.assert_allclose(weights, before + factor * (after - before), rtol=1e-6)


def test_scaling_leaves_its_input_unchanged():
    change = torch.tensor([0.5, -0.5])
    scale(change, factor=7.0)
    assert change.tolist() == [0.5, -0.5]
