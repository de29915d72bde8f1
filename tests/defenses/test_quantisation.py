"""Quantisation: number of levels, change of the entries, and what stays equal."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlab.defenses.pruning import Pruning
from fedlab.defenses.quantisation import Quantisation, quantised
from tests.defenses.updates import released, tensors, update
from tests.federations import finished, small


@settings(deadline=None)
@given(tensor=tensors, bits=st.integers(1, 16))
def test_quantisation_keeps_signs_and_zeros(tensor, bits):
    found = quantised(tensor, bits=bits)
    assert len(found.unique()) <= max(3, 2**bits - 1)
    assert (found * tensor >= 0).all()
    assert not found[tensor == 0].any()


@settings(deadline=None)
@given(tensor=tensors, bits=st.integers(2, 16))
def test_entry_changes_by_half_a_step_at_most(tensor, bits):
    largest = float(tensor.abs().max())
    step = 2 * largest / (2**bits - 2)
    error = float((quantised(tensor, bits=bits) - tensor).abs().max())
    assert error <= step / 2 + 1e-5 * largest


def test_one_bit_keeps_signs_and_total_magnitude():
    tensor = torch.randn(500, generator=torch.Generator().manual_seed(0))
    found = quantised(tensor, bits=1)
    assert torch.equal(found.sign(), tensor.sign())
    assert len(found.abs().unique()) == 1
    assert float(found.abs().sum()) == pytest.approx(float(tensor.abs().sum()), rel=1e-5)


def test_every_tensor_has_its_own_levels():
    sent = update()
    sent["bias"] *= 1e-3
    found = released(Quantisation(bits=4), sent)
    assert all(len(tensor.unique()) <= 15 for tensor in found.values())
    assert len(found["bias"].unique()) > 5
    assert float((found["bias"] - sent["bias"]).abs().max()) <= float(sent["bias"].abs().max()) / 14


def test_pruned_entries_stay_zero():
    sparse = released(Pruning(share=0.9), update())
    found = released(Quantisation(bits=1), sparse)
    assert all(torch.equal(found[name] != 0, sparse[name] != 0) for name in sparse)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_values_that_are_not_finite_stay_so(wrong):
    """The server then refuses the update."""
    assert not quantised(torch.tensor([1.0, wrong]), bits=4).isfinite().all()


@pytest.mark.parametrize("bits", [1, 2, 8])
def test_quantised_federation_learns_and_is_replayed(bits):
    scenario = small(
        rounds=2,
        roles=[{"role": "leaking", "clients": "0"}],
        defenses=[{"name": "quantisation", "bits": bits}],
        reconstructions=[{"clients": "0", "iterations": 2}],
    )
    federation = finished(scenario)
    first, *_, last = federation.folder.rounds()
    assert last.loss < first.loss
    table = federation.folder.table("leakage")
    assert (table["payload_cosine"] > 0.99999).all()
    assert set(table["objective"]) == {"cosine"}
    assert (federation.folder.table("clients")["defenses"] == "quantisation").all()
