"""Pruning keeps the largest entries of each tensor and sets the others to 0."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlab.defenses.pruning import Pruning, pruned
from fedlab.server.captures import Capture
from tests.defenses.updates import released, tensors, update
from tests.federations import finished, small


@settings(deadline=None)
@given(tensor=tensors, share=st.floats(0.01, 0.99))
def test_pruning_removes_the_smallest_entries(tensor, share):
    found = pruned(tensor, share=share)
    kept = found != 0
    assert torch.equal(found[kept], tensor[kept])
    gone = min(round(share * len(tensor)), len(tensor) - 1)
    # Entries that were 0 before count as pruned.
    assert int((~kept).sum()) == max(gone, int((tensor == 0).sum()))
    if kept.any() and not kept.all():
        assert tensor[~kept].abs().max() <= tensor[kept].abs().min()


def test_every_tensor_is_pruned_by_itself():
    sent = update()
    sent["bias"] *= 1e-3  # the smallest entries of the update, not all of which may go
    found = released(Pruning(share=0.9), sent)
    left = {name: int(tensor.count_nonzero()) for name, tensor in found.items()}
    assert left == {"weight": 120, "bias": 3, "scale": 1}


def test_some_of_equal_entries_stay():
    assert int(pruned(torch.ones(10), share=0.7).sum()) == 3


@pytest.mark.parametrize("leaking", [True, False])
def test_sent_update_is_pruned_and_attack_masks_zeros(leaking):
    scenario = small(
        "data.train=40",
        rounds=1,
        roles=[{"role": "leaking", "clients": "0"}] if leaking else [],
        defenses=[{"name": "pruning", "share": 0.3}],
        reconstructions=[{"clients": "0", "iterations": 2}],
    )
    federation = finished(scenario)
    capture = Capture.load(federation.folder.captures, round=1, client=0)
    for name, tensor in capture.payload.tensors.items():
        change = tensor if leaking else tensor - capture.global_state[name]
        if change.numel() > 9:
            assert float((change == 0).float().mean()) >= 0.29, name
    leak = federation.reconstruct(
        round=1, client=0, preset="inverting-gradients", iterations=2, power=False
    )
    assert leak.reconstruction.attack.mask == "nonzero"
    assert leak.rows[0].payload_cosine > 0.99999
    assert set(federation.folder.table("ledger")["statement"]) == {"open"}
