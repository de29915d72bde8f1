"""Federated runs under robust rules: who was let in, whose weight is capped, what is dropped."""

import logging

import numpy as np
import pytest
import torch
from flwr.app import Error

from fedlab import BadInput, Federation
from fedlab.client.federated_data import FederatedData
from fedlab.server.captures import Capture
from fedlab.simulation.root_training import root_training
from tests.federations import Tampered, finished, small

SEVEN = {"train": 140, "test": 40, "clients": 7}
MANY = {"train": 700, "test": 200, "clients": 7}
"""Of which even few clients' updates point the same way."""
BULYAN = {"strategy": "Bulyan", "options": {"num_malicious_nodes": 1}}
SCALED = {"role": "poisoning", "clients": "2", "update": {"attack": "scaling", "factor": -30.0}}


def dropping(*clients):
    def tamper(client, reply):
        return Error(code=2, reason="RuntimeError: no") if client in clients else reply

    return tamper


def seven(**tables):
    return small(rounds=1, data=SEVEN, **tables)


def test_bulyan_continues_without_one_reply(caplog):
    caplog.set_level(logging.WARNING)
    scenario = seven(server=BULYAN).changed(rounds=2)
    federation = finished(scenario, grid=Tampered(scenario, dropping(4)))
    assert federation.round == 2
    for number in (1, 2):
        assert (
            f"round {number}: Bulyan has 6 replies of 7, too few for 1 malicious clients; "
            "it tolerates 0" in caplog.messages
        )
    table = federation.folder.table("clients")
    assert table["selected"].isna().tolist() == [client == 4 for client in range(7)] * 2


def test_bulyan_continues_with_few_replies():
    scenario = seven(server=BULYAN)
    federation = Federation(scenario, grid=Tampered(scenario, dropping(0, 1, 3, 4, 6)))
    before = federation.state
    federation.step()
    assert all(torch.equal(value, before[name]) for name, value in federation.state.items())
    selected = federation.folder.table("clients")["selected"]
    assert selected[[2, 5]].tolist() == ["no", "no"]


@pytest.mark.parametrize(
    ("strategy", "options", "chosen"),
    [
        ("Krum", {"num_malicious_nodes": 1}, 1),
        ("MultiKrum", {"num_malicious_nodes": 1, "num_nodes_to_select": 4}, 4),
        ("Bulyan", {"num_malicious_nodes": 1}, 5),
        ("FLTrust", {}, None),
        ("FLAME", {}, None),
        ("DnC", {"num_malicious_nodes": 1}, 6),
        ("Bucketing", {"rule": "DnC", "num_malicious_nodes": 1}, None),
    ],
)
def test_the_table_tells_whose_reply_was_left_out(strategy, options, chosen):
    server = {"strategy": strategy, "options": options}
    scenario = small("training.lr=0.2", rounds=1, data=MANY, server=server, roles=[SCALED])
    selected = finished(scenario).folder.table("clients")["selected"]
    assert set(selected) == {"yes", "no"}
    assert selected[2] == "no"
    assert chosen is None or (selected == "yes").sum() == chosen


def test_selected_is_empty_for_a_plain_mean():
    assert finished(seven()).folder.table("clients")["selected"].isna().all()


def test_a_cap_bounds_the_weight_and_not_the_record():
    counts = {0: 10_000_000, 1: 20, 2: 20, 3: 1}

    def lying(client, reply):
        reply.content["facts"]["num-examples"] = counts[client]
        return reply

    scenario = small(rounds=1, server={"cap_examples": 20}, captures={"keep": "all"})
    federation = Federation(scenario, grid=Tampered(scenario, lying))
    federation.step()
    table = federation.folder.table("clients")
    assert table["examples"].tolist() == list(counts.values())
    assert set(table["status"]) == {"ok"}
    trusting = Federation(small(rounds=1), grid=Tampered(scenario, lying))
    trusting.step()
    sent = _sent(federation)
    for name, value in federation.state.items():
        weights = [20, 20, 20, 1]
        expected = np.average([each[name].numpy() for each in sent], axis=0, weights=weights)
        np.testing.assert_allclose(value.numpy(), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(trusting.state[name], sent[0][name], rtol=1e-4, atol=1e-5)


def _sent(federation):
    folder = federation.folder.captures
    return [Capture.load(folder, round=1, client=c).payload.tensors for c in range(4)]


FLTRUST = {"strategy": "FLTrust", "root_images": 30}


class TestRootImages:
    def test_no_client_holds_one_and_none_is_lost(self):
        federated = FederatedData.of(small(server=FLTRUST, data=SEVEN))
        held = torch.cat(federated.partitions)
        assert len(federated.root) == 30
        assert sorted([*held.tolist(), *federated.root.tolist()]) == list(range(140))
        assert not torch.equal(
            federated.root, FederatedData.of(small("seed=1", server=FLTRUST, data=SEVEN)).root
        )

    def test_other_strategies_keep_none(self):
        assert not len(FederatedData.of(small()).root)

    def test_too_many_are_refused(self):
        with pytest.raises(BadInput, match="root_images is 140, which leaves none of 140"):
            FederatedData.of(small(server=FLTRUST | {"root_images": 140}, data=SEVEN))


def test_fltrust_learns_under_a_majority_of_attackers():
    reversing = SCALED | {"clients": "0-3", "update": {"attack": "scaling", "factor": -3.0}}
    scenario = small("training.lr=0.2", rounds=10, data=MANY, roles=[reversing])
    trusting = finished(scenario.changed(server=FLTRUST | {"root_images": 100}))
    table = trusting.folder.table("clients")
    attackers = table["client"] < 4
    assert set(table["selected"][attackers]) == {"no"}
    assert (table["selected"][~attackers] == "yes").mean() > 0.9
    assert trusting.folder.rounds()[-1].accuracy > 0.5
    assert finished(scenario.changed(rounds=5)).folder.rounds()[-1].accuracy < 0.2


def test_fltrust_resumes_bit_for_bit(tmp_path):
    scenario = small(
        rounds=3,
        server=FLTRUST,
        data=SEVEN,
        model={"name": "resnet8", "width": 4, "norm": "batch"},
        training={"batch_size": 8, "lr": 0.05},
    )
    whole = finished(scenario)
    again = Federation(scenario, out=tmp_path / "run")
    again.step()
    resumed = Federation.resume(tmp_path / "run")
    resumed.run()
    assert all(torch.equal(value, resumed.state[name]) for name, value in whole.state.items())
    moved = Federation(scenario).state
    assert any(not torch.equal(value, moved[name]) for name, value in whole.state.items())


@pytest.mark.parametrize("strategy", ["NormClipping", "GeometricMedian", "FLTrust", "FLAME"])
def test_shared_statistics_are_refused_with_changes(strategy):
    tables = {
        "model": {"name": "resnet8", "width": 4, "norm": "batch"},
        "training": {"share_buffers": True, "batch_size": 8},
    }
    with pytest.raises(BadInput, match=f"{strategy} compares changes .* statistics outweigh"):
        Federation(small(server={"strategy": strategy, "root_images": 20}, **tables))
    Federation(small(server={"strategy": strategy, "root_images": 20}, model=tables["model"]))


def test_root_training_equals_an_honest_client():
    scenario = small(server=FLTRUST, data=SEVEN, roles=[{"role": "leaking", "clients": "all"}])
    federated = FederatedData.of(scenario)
    start, random = federated.state, torch.random.get_rng_state()
    images = federated.data.train_images.clone()
    train = root_training(federated, scenario)
    one, again, later = train(1, start), train(1, start), train(2, start)
    assert torch.equal(torch.random.get_rng_state(), random)
    assert torch.equal(federated.data.train_images, images)
    assert len(federated.partitions) == 7
    assert one.keys() == start.keys()
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    assert any(not torch.equal(value, later[name]) for name, value in one.items())
    assert any(not torch.equal(value, start[name]) for name, value in one.items())
