"""Tests of the ClientApp and the content of its replies."""

import json

import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict

from fedlab.client.app import client_app
from fedlab.client.federated_data import FederatedData
from fedlab.engine.in_process import InProcessGrid
from fedlab.privacy.history_text import from_json
from fedlab.protocol.planning import task_for
from tests.federations import finished, small

ROLES = {
    "honest": [],
    "leaking": [{"role": "leaking", "clients": "0", "batch_size": 2}],
    "poisoning": [{"role": "poisoning", "clients": "0"}],
}
DEFENSES = {
    "dp-sgd": [{"name": "dp-sgd"}],
    "dp-instahide": [{"name": "dp-instahide", "k": 3}],
    "none": [],
}
SPENDING = {
    "round",
    "participation",
    "next_clipping_norm",
    "release",
    "mechanism",
    "clipping_norm",
    "noise_multiplier",
    "sample_rate",
    "fixed_batch",
    "steps",
    "epsilon",
    "unit",
    "adjacency",
    "sensitivity",  # this and the next are constants of a foreign class
    "needs_public_labels",
    "void",  # the reason why an epsilon does not hold, which the server knows from its own plan
}


def ask(scenario, client=0, rounds=(1,)):
    federated = FederatedData.of(scenario)
    grid = InProcessGrid(client_app(lambda _: federated), scenario.data.clients)
    arrays = {n: Array(t.numpy()) for n, t in federated.model.state_dict().items()}
    for number in rounds:
        task = task_for(scenario, round=number, client=client)
        content = RecordDict(
            {
                "arrays": ArrayRecord(dict(arrays)),
                "config": ConfigRecord({"plan": task.model_dump_json(exclude_none=True)}),
            }
        )
        question = Message(content, client + 1, MessageType.TRAIN)
        (reply,) = grid.send_and_receive([question])
    assert not reply.has_error(), reply.error.reason
    return federated, reply.content


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("defense", DEFENSES)
def test_reply_has_only_known_keys(role, defense):
    """The whitelist: parameters by name, two counts, the kind, and the accountant history."""
    scenario = small(roles=ROLES[role], defenses=DEFENSES[defense])
    federated, content = ask(scenario)
    allowed = {
        "payload": {name for name, _ in federated.model.named_parameters()},
        "facts": {"num-examples", "steps"},
        "declared": {"kind", "history"},
    }
    assert {record: set(keys) for record, keys in content.items()} == allowed
    assert all(isinstance(value, int) for value in content["facts"].values())
    assert content["declared"]["kind"] == ("gradient" if role == "leaking" else "weights")
    history = from_json(content["declared"]["history"])
    assert [entry.mechanism for entry in history] == [defense]
    (written,) = json.loads(content["declared"]["history"])
    assert set(written) <= SPENDING


def test_buffers_are_sent_only_if_shared():
    network = {"name": "resnet8", "width": 4, "norm": "batch"}
    federated, content = ask(small(model=network))
    buffers = {name for name, _ in federated.model.named_buffers()}
    assert buffers
    assert not buffers & set(content["payload"])
    shared = {"share_buffers": True, "batch_size": 16}
    _, content = ask(small(model=network, training=shared))
    assert set(content["buffers"]) == buffers
    history = from_json(content["declared"]["history"])
    assert [entry.mechanism for entry in history] == ["none"]  # such a round counts as open


def test_history_grows_in_the_client_state():
    scenario = small(defenses=[{"name": "dp-sgd", "rounds": "2-"}])
    _, content = ask(scenario, rounds=(1, 2, 3))
    history = from_json(content["declared"]["history"])
    assert [(entry.round, entry.mechanism) for entry in history] == [
        (1, "none"),
        (2, "dp-sgd"),
        (3, "dp-sgd"),
    ]


def test_protected_reply_contains_no_image():
    scenario = small(defenses=[{"name": "dp-sgd"}])
    federated, content = ask(scenario)
    shard = federated.shard(0)
    for array in content["payload"].values():
        values = torch.from_numpy(array.numpy().copy())
        assert values.shape[-3:] != shard.images.shape[-3:]


def test_update_attack_leaves_the_data_clean():
    """Scaled by one and with clean data it is an honest client, also after its orders travelled."""
    role = {"role": "poisoning", "data": None, "update": {"attack": "scaling", "factor": 1.0}}
    honest, poisoned = (finished(small("rounds=1", roles=roles)) for roles in ([], [role]))
    for name, value in honest.state.items():
        torch.testing.assert_close(poisoned.state[name], value)
