"""A federation whose clients train in lockstep is the same federation, but for rounding."""

from dataclasses import replace

import pytest
import torch

from fedlab import BadInput, Federation
from fedlab.client import lockstep
from fedlab.defenses import Defense
from fedlab.simulation.callbacks import Callback
from tests.federations import FORGETFUL, finished, small

AT_ONCE = {"device": "cpu", "clients_at_once": 4}

VARIED = {
    "data": {"source": "digits", "train": 240, "test": 80, "clients": 8},
    "training": {"batch_size": 16, "epochs": 2, "momentum": 0.9},
    "server": {"strategy": "FedProx", "options": {"proximal_mu": 0.1}},
    "captures": {"keep": "all"},
    "roles": [
        {"role": "leaking", "clients": "1", "batch_size": 2},
        {"role": "poisoning", "clients": "4", "update": {"attack": "little-is-enough"}},
    ],
    "defenses": [
        {"name": "dp-sgd", "clients": "2", "clipping": "adaptive"},
        {"name": "clip-noise", "clients": "5", "rounds": "2"},
    ],
    "reconstructions": [{"clients": "0-1", "rounds": "1", "iterations": 2}],
}


class Kept(Callback):
    """Keeps what every client sent."""

    def __init__(self):
        self.sent = {}

    def on_captures(self, federation, captures):
        for each in captures:
            self.sent[each.round, each.clients] = each.payload.tensors


def varied(engine, **options):
    kept = Kept()
    return finished(small(rounds=2, engine=engine, **VARIED), callbacks=[kept], **options), kept


@pytest.fixture(scope="module")
def both():
    return varied({"device": "cpu"}), varied(AT_ONCE)


@pytest.fixture
def stacks(monkeypatch):
    """The clients of every stack that trains."""
    found = []
    train = lockstep.train_stacked

    def noted(tasks, *rest):
        found.append([task.client for task in tasks])
        return train(tasks, *rest)

    monkeypatch.setattr(lockstep, "train_stacked", noted)
    return found


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def distance(one, other):
    """Norm of the difference over the norm."""
    flat, others = (torch.cat([t.flatten() for t in each.values()]) for each in (one, other))
    return float((flat - others).norm() / flat.norm())


def test_only_stacked_clients_differ_by_rounding(both):
    (_, alone), (_, stacked) = both
    first = {key: same(sent, stacked.sent[key]) for key, sent in alone.sent.items() if key[0] == 1}
    # Client 7 is left over, and client 4 computes the honest updates that it imitates by itself.
    assert [key[1][0] for key, equal in first.items() if equal] == [1, 2, 4, 7]
    # In round 2 all start from other global weights; DP noise is the same.
    for key, sent in alone.sent.items():
        assert distance(sent, stacked.sent[key]) < 1e-5, key


def test_tables_and_ledger_are_the_same(both):
    (alone, _), (stacked, _) = both
    assert stacked.folder.table("ledger").equals(alone.folder.table("ledger"))
    clients, others = (each.folder.table("clients") for each in (stacked, alone))
    assert clients.drop(columns="update_norm").equals(others.drop(columns="update_norm"))
    assert clients["update_norm"].tolist() == pytest.approx(others["update_norm"].tolist(), 1e-5)


def test_the_replay_of_a_stacked_client_agrees(both):
    leaks = both[1][0].folder.table("leakage")
    assert set(leaks["client"]) == {0, 1}
    assert leaks["payload_cosine"].min() > 0.999999


def test_run_and_resumed_run_repeat_the_bits(both, tmp_path, stacks):
    _, (whole, _) = both
    broken = Federation(small(rounds=2, engine=AT_ONCE, **VARIED), out=tmp_path / "run")
    broken.step()
    broken.folder.release()
    resumed = Federation.resume(tmp_path / "run")
    resumed.run()
    assert stacks == [[0, 3, 5, 6]] * 2
    assert same(whole.state, resumed.state)
    for table in ("ledger", "clients"):
        assert whole.folder.table(table).equals(resumed.folder.table(table)), table


class Deceptive(Defense):
    """Says that it leaves the training as it is, and blackens every image."""

    leaves_training = True

    def wrap(self, pipeline, context):
        return pipeline.transforming(lambda batch: replace(batch, pixels=0 * batch.pixels))


def test_a_defense_of_batches_is_never_passed_over(stacks):
    defense = {"name": "tests.engine.test_lockstep:Deceptive", "clients": "0-1"}
    alone = finished(small(rounds=1, defenses=[defense]))
    stacked = finished(small(rounds=1, defenses=[defense], engine=AT_ONCE))
    assert stacks == [[0, 1, 2, 3]]
    one, other = (each.folder.table("clients")["update_norm"] for each in (alone, stacked))
    assert one[:2].equals(other[:2])


def test_a_network_with_dropout_keeps_its_bits(caplog):
    alone = finished(small(rounds=2, model=FORGETFUL))
    assert same(alone.state, finished(small(rounds=2, model=FORGETFUL, engine=AT_ONCE)).state)
    assert "clients train one after another, not in lockstep" in caplog.text


def test_other_engines_and_processes_are_refused():
    for name in ("ray", "deployment"):
        with pytest.raises(BadInput, match=f'with name = "{name}" every client trains alone'):
            small(engine=AT_ONCE | {"name": name})
    with pytest.raises(BadInput, match=r"engine.workers is 2, but engine.clients_at_once"):
        Federation(small(engine=AT_ONCE | {"workers": 2}))
