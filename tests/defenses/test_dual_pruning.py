"""Dual pruning keeps the entries of middle size of each tensor."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlab import BadInput
from fedlab.defenses.dual_pruning import DualPruning, dual_pruned
from fedlab.defenses.pruning import pruned
from fedlab.server.captures import Capture
from tests.defenses.updates import released, tensors, update
from tests.federations import finished, small


@settings(deadline=None)
@given(tensor=tensors, largest=st.floats(0, 0.49), smallest=st.floats(0, 0.49))
def test_entries_of_middle_size_stay(tensor, largest, smallest):
    found = dual_pruned(tensor, largest=largest, smallest=smallest)
    sizes = tensor.abs().sort().values
    top = min(round(largest * len(tensor)), len(tensor) - 1)
    bottom = min(round(smallest * len(tensor)), len(tensor) - 1 - top)
    assert torch.equal(found[found != 0], tensor[found != 0])
    torch.testing.assert_close(
        found.abs().sort().values[top + bottom :], sizes[bottom : len(tensor) - top]
    )


def test_only_small_ones_pruned_equals_pruning():
    for tensor in update().values():
        found = dual_pruned(tensor, largest=0.0, smallest=0.8)
        assert torch.equal(found, pruned(tensor, share=0.8))


def test_every_tensor_is_dual_pruned_by_itself():
    sent = update()
    sent["bias"] *= 1e-3
    found = released(DualPruning(largest=0.1, smallest=0.5), sent)
    left = {name: int(tensor.count_nonzero()) for name, tensor in found.items()}
    assert left == {"weight": 480, "bias": 12, "scale": 1}


def test_shares_that_leave_nothing_are_refused():
    with pytest.raises(BadInput, match="must add up to less than 1"):
        small(defenses=[{"name": "dual-pruning", "largest": 0.4, "smallest": 0.6}])


def test_attack_masks_what_dual_pruning_left():
    run = small(
        "data.train=40",
        rounds=1,
        roles=[{"role": "leaking", "clients": "0"}],
        defenses=[{"name": "dual-pruning"}],
        reconstructions=[{"clients": "0", "iterations": 2}],
    )
    federation = finished(run)
    capture = Capture.load(federation.folder.captures, round=1, client=0)
    zeros = [float((t == 0).double().mean()) for t in capture.payload.tensors.values()]
    assert max(zeros) == pytest.approx(0.8, abs=0.01)
    leak = federation.reconstruct(
        round=1, client=0, preset="inverting-gradients", iterations=2, power=False
    )
    assert leak.reconstruction.attack.mask == "nonzero"
    assert leak.rows[0].payload_cosine > 0.99999
