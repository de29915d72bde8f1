"""An update scaled up: every payload kind, and nothing but the result changes."""

import numpy as np
import pytest
import torch

from attacks.model_poisoning.scaling import scale
from attacks.payload import Payload


@pytest.mark.parametrize("factor", [10.0, -1.0, 0.5])
def test_scaling_of_each_payload_kind(factor):
    start = {"w": torch.tensor([1.0, -2.0, 0.5])}
    sent = {"w": torch.tensor([1.5, -2.5, 0.0])}
    weights = scale(Payload("weights", sent, num_examples=3, steps=2), start, factor)
    before, after = start["w"].numpy(), sent["w"].numpy()
    np.testing.assert_allclose(weights.tensors["w"], before + factor * (after - before), rtol=1e-6)
    gradient = scale(Payload("gradient", sent, num_examples=3, steps=1), start, factor)
    np.testing.assert_allclose(gradient.tensors["w"], factor * after, rtol=1e-6)
    assert (weights.num_examples, weights.steps) == (3, 2)


def test_scaling_leaves_what_it_was_given():
    start, sent = {"w": torch.tensor([1.0, -2.0])}, {"w": torch.tensor([1.5, -2.5])}
    for kind in ("weights", "gradient"):
        scale(Payload(kind, sent, num_examples=1, steps=1), start, 7.0)
    assert start["w"].tolist() == [1.0, -2.0]
    assert sent["w"].tolist() == [1.5, -2.5]
