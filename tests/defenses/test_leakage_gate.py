"""The leakage gate: which updates it withholds, and what its decision costs."""

import math

import pytest

from fedlab.client.client_round import run_client_round
from fedlab.client.federated_data import FederatedData
from fedlab.core.errors import BadInput
from fedlab.defenses.leakage_gate import LeakageGate
from fedlab.privacy.accounts import CLIENT
from fedlab.protocol.planning import task_for
from fedlab.server.captures import Capture
from tests.federations import finished, small

LEAK = {"role": "leaking", "clients": "0"}
GATE = {"name": "leakage-gate", "clients": "0", "iterations": 60}
WIDE = ("model.width=16",)


def statuses(federation, client=0):
    table = federation.folder.table("clients")
    return table[table["client"] == client]["status"].tolist()


def test_update_that_leaks_is_withheld():
    federation = finished(small(*WIDE, rounds=2, roles=[LEAK], defenses=[GATE], captures=KEEP))
    assert statuses(federation) == ["withheld"] * 2
    assert not Capture.kept(federation.folder.captures, 1, 0)
    reason = federation.folder.table("clients")["reason"].tolist()[0]
    # The threshold is public, but the reason must not contain the PSNR.
    assert reason == "its own attack on its update reconstructed an image at 20 dB or above"
    assert statuses(federation, client=1) == ["ok"] * 2


KEEP = {"keep": "all"}


def test_server_reconstructs_without_the_gate():
    open_run = small(*WIDE, rounds=1, roles=[LEAK], captures=KEEP)
    leak = finished(open_run).reconstruct(round=1, client=0, preset="fast", iterations=60)
    assert leak.rows[0].psnr > 20


def test_noisy_update_passes_the_gate():
    noise = {"name": "clip-noise", "clients": "0", "noise_multiplier": 1.0}
    federation = finished(small(*WIDE, rounds=1, roles=[LEAK], defenses=[noise, GATE]))
    assert statuses(federation) == ["ok"]


@pytest.mark.parametrize(("threshold", "status"), [(-100.0, "withheld"), (101.0, "ok")])
def test_threshold_decides(threshold, status):
    gate = GATE | {"threshold": threshold, "iterations": 1}
    federation = finished(small(rounds=1, roles=[LEAK], defenses=[gate]))
    assert statuses(federation) == [status]


def test_inspected_round_has_no_epsilon():
    noise = {"name": "clip-noise", "clients": "0-1", "noise_multiplier": 4.0}
    gate = GATE | {"threshold": 101.0, "iterations": 1}
    federation = finished(small(rounds=2, defenses=[noise, gate], data=FEW))
    mechanisms = [entry.mechanism for entry in federation.ledger.histories[0]]
    assert mechanisms == ["clip-noise", "leakage-gate"] * 2
    assert math.isinf(federation.ledger.total(0, CLIENT))
    assert math.isfinite(federation.ledger.protected(0, CLIENT))
    assert math.isfinite(federation.ledger.total(1, CLIENT))
    rows = federation.ledger.rows(1)
    assert [row.statement for row in rows if row.client == 0] == ["formal", "open"]


FEW = {"train": 40, "test": 40, "clients": 4}


def test_gate_inspects_every_nth_participation():
    gate = GATE | {"every": 2, "threshold": -100.0, "iterations": 1}
    federation = finished(small(rounds=4, roles=[LEAK], defenses=[gate]))
    assert statuses(federation) == ["withheld", "ok", "withheld", "ok"]
    mechanisms = [entry.mechanism for entry in federation.ledger.histories[0]]
    assert mechanisms == ["leakage-gate", "none", "leakage-gate", "none"]


def test_update_of_too_many_images_passes():
    gate = GATE | {"threshold": -100.0, "iterations": 1}
    data = {"train": 320, "test": 40, "clients": 4}
    federation = finished(small(rounds=1, data=data, defenses=[gate]))
    assert statuses(federation) == ["ok"]
    assert [entry.mechanism for entry in federation.ledger.histories[0]] == ["none"]


@pytest.mark.parametrize(
    "others",
    [
        [{"name": "dp-sgd"}],
        [{"name": "dp-instahide", "k": 3}, {"name": "flip-crop", "padding": 1}],
        [{"name": "flip-crop", "padding": 1}, {"name": "pruning"}],
    ],
    ids=["dp-sgd", "mixtures", "augmentation"],
)
@pytest.mark.parametrize("role", [[LEAK | {"batch_size": 3}], []], ids=["gradient", "weights"])
def test_gate_follows_defenses_and_keeps_the_update(others, role):
    training = {"batch_size": 4, "lr": 0.05, "epochs": 2}
    without = small(data=FEW, roles=role, defenses=others, training=training)
    gate = GATE | {"threshold": 101.0, "iterations": 2}
    scenario = without.changed(defenses=[*others, gate])
    federated = FederatedData.of(scenario)
    state = {name: value.clone() for name, value in federated.model.state_dict().items()}
    task = task_for(scenario, round=1, client=0)
    passed = run_client_round(task, federated, state, ())
    # The settings seed the noise, so the replay needs the same ones.
    replayed = run_client_round(task, federated, state, (), keep_batches=True)
    assert passed.abstention is None
    assert all((passed.sent.tensors[n] == t).all() for n, t in replayed.sent.tensors.items())
    assert "leakage-gate" in {entry.mechanism for entry in passed.history}
    assert not any(module._forward_hooks for module in federated.model.modules())


def test_replay_does_not_inspect_again():
    scenario = small(roles=[LEAK], defenses=[GATE | {"threshold": -100.0, "iterations": 1}])
    federated = FederatedData.of(scenario)
    state = {name: value.clone() for name, value in federated.model.state_dict().items()}
    task = task_for(scenario, round=1, client=0)
    assert run_client_round(task, federated, state, ()).payload is None
    assert run_client_round(task, federated, state, (), keep_batches=True).payload is not None
    assert run_client_round(task, federated, state, (), noiseless=True).payload is not None


def test_unknown_preset_is_refused():
    with pytest.raises(BadInput, match='did you mean "fast"'):
        LeakageGate(preset="fastt")
