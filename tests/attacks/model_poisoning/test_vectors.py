"""Tests of named tensors as one vector."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.model_poisoning.vectors import flatten, unflatten

SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)
DTYPES = st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64])


@settings(deadline=None, max_examples=50)
@given(parts=st.dictionaries(st.text(max_size=4), st.tuples(SHAPES, DTYPES), min_size=1))
def test_flatten_round_trip_is_exact(parts):
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(shape, generator=generator).to(dtype)
        for name, (shape, dtype) in parts.items()
    }
    back = unflatten(flatten(tensors), tensors)
    assert list(back) == list(tensors)
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)


def test_mapping_order_does_not_matter():
    one, two = torch.tensor([[1.0, 2.0]]), torch.tensor(3.0)
    assert torch.equal(flatten({"b": two, "a": one}), flatten({"a": one, "b": two}))
    assert flatten({"b": two, "a": one}).tolist() == [1, 2, 3]


def test_irreversible_input_is_refused():
    with pytest.raises(ValueError, match=r"steps is torch\.int64"):
        flatten({"weight": torch.ones(2), "steps": torch.tensor(3)})
    with pytest.raises(ValueError, match="no tensors"):
        flatten({})
    for wrong in (torch.ones(3), torch.ones(1, 4)):
        with pytest.raises(ValueError, match="does not have 4 entries"):
            unflatten(wrong, {"weight": torch.ones(2, 2)})
