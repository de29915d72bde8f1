"""Tests of a client that abstains because of its privacy budget."""

import pytest
import torch

from fedlab import Federation
from fedlab.server.captures import Capture
from tests.federations import finished, small

BUDGET = {"name": "dp-sgd", "noise_multiplier": 1.0, "clients": "1", "budget": 8.0}
# Three steps a round at q = 0.4: epsilon 5.76 after one round, 7.74 after two, 9.28 after three.


def test_client_over_budget_abstains_for_free():
    federation = finished(small(defenses=[BUDGET]))
    table = federation.folder.table("clients")
    own = table[table["client"] == 1]
    assert own["status"].tolist() == ["ok", "ok", "budget", "budget"]
    assert "more than its budget of 8" in own["reason"].tolist()[2]
    assert own["update_norm"].isna().tolist() == [False, False, True, True]
    assert (table[table["client"] != 1]["status"] == "ok").all()
    assert federation.ledger.protected(1) == pytest.approx(7.74, abs=0.01)
    assert federation.ledger.protected(1) <= 8.0
    assert [entry.round for entry in federation.ledger.histories[1]] == [1, 2]


def test_other_clients_are_averaged():
    scenario = small(rounds=1, captures={"keep": "all"}, defenses=[BUDGET | {"budget": 0.5}])
    federation = finished(scenario)
    captures = [Capture.load(federation.folder.captures, round=1, client=c) for c in (0, 2, 3)]
    for name in captures[0].payload.tensors:
        mean = torch.stack([each.payload.tensors[name] for each in captures]).mean(0)
        torch.testing.assert_close(federation.state[name], mean, rtol=1e-5, atol=1e-7)
    assert not Capture.kept(federation.folder.captures, 1, 1)


def test_round_without_replies_keeps_the_model():
    federation = Federation(small(defenses=[BUDGET | {"clients": "all", "budget": 0.5}]))
    before = federation.state
    result = federation.step()
    assert all(torch.equal(before[name], value) for name, value in federation.state.items())
    assert "over budget clients [0, 1, 2, 3]" in str(result)
    assert all(federation.ledger.total(client) == 0 for client in range(4))


def test_budget_holds_after_a_resume(tmp_path):
    Federation(small(defenses=[BUDGET]), out=tmp_path / "run").step()
    resumed = Federation.resume(tmp_path / "run")
    resumed.run()
    assert resumed.ledger.protected(1) <= 8.0
    statuses = resumed.folder.table("clients").groupby("client")["status"].apply(list)
    assert statuses[1] == ["ok", "ok", "budget", "budget"]
