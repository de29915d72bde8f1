"""The audit: sound mechanisms pass, and a contradicted ledger fails the run."""

import json
import math

import pytest
import torch

from fedlab import BadInput, Federation, RunFailed, Scenario
from fedlab.cli.app import main
from fedlab.client.canaries import canaries_of
from fedlab.defenses.private_gradient import PrivateGradient
from fedlab.results.checkpoint import Checkpoint
from fedlab.results.folder import RunFolder
from fedlab.simulation.auditing import verdict_of
from tests.federations import finished

AUDITED = """
name = "audited"
rounds = 3
data = { train = 200, test = 200, clients = 2 }
model = { name = "mlp", width = 64 }
training = { batch_size = 200, lr = 0.1 }
engine = { device = "cpu" }
audit = { client = 1, canaries = 240, background = 200 }
[[defenses]]
name = "dp-sgd"
noise_multiplier = 8.0
"""


def audited(*overrides):
    return Scenario.parse(AUDITED, overrides)


@pytest.fixture(scope="module")
def sound():
    return finished(audited())


@pytest.fixture
def without_noise(monkeypatch):
    """DP-SGD that accounts for its noise and adds none."""
    made = PrivateGradient.__init__

    def silent(self, *args, **settings):
        made(self, *args, **settings | {"noise_multiplier": 0.0})

    monkeypatch.setattr(PrivateGradient, "__init__", silent)


def test_sound_mechanism_is_not_contradicted(sound):
    verdict = sound.audit
    assert verdict.holds
    assert verdict.ledger == sound.ledger.total(1)
    assert verdict.ledger <= 1.5
    assert verdict.bound.epsilon < verdict.ledger
    assert verdict.bound.canaries == 240
    assert verdict.updates == verdict.round == 3
    assert 0 <= verdict.gaussian.epsilon <= verdict.ledger
    assert verdict.estimate.epsilon <= verdict.ledger
    assert verdict.tightest is verdict.gaussian
    assert 0.1 < verdict.ceiling_10 < 0.2
    assert 0.01 < verdict.ceiling_100 < 0.03


def test_missing_noise_fails_the_run(without_noise):
    federation = Federation(audited())
    with pytest.raises(RunFailed, match=r"client 1: epsilon is at least .* is broken"):
        federation.run()
    verdict = federation.audit
    assert verdict.ledger <= 1.5 < verdict.bound.epsilon < verdict.gaussian.epsilon
    assert not verdict_of(federation.folder).holds


def test_half_of_the_canaries_join_one_client(sound):
    federated = sound.federated
    canaries, coins = canaries_of(sound.scenario, federated.data)
    assert len(canaries) == 240
    assert 80 < int(coins.sum()) < 160
    own, other = federated.shard(1), federated.shard(0)
    assert len(other) == 100
    assert len(own) == 100 + int(coins.sum())
    assert torch.equal(own.images[100:], canaries.images[coins])
    assert torch.equal(own.labels[100:], canaries.labels[coins])


def test_folder_holds_the_same_verdict(sound, capsys, monkeypatch):
    assert verdict_of(sound.folder) == sound.audit
    assert sound.audit.estimate is not None
    facts = json.loads((sound.folder.path / "audit.json").read_text())
    assert facts["holds"] is True
    monkeypatch.setattr("sys.argv", ["fedlab", "audit", str(sound.folder.path)])
    main()
    assert "its ledger says" in " ".join(capsys.readouterr().out.split())


def test_contradicted_audit_exits_with_1(without_noise, tmp_path, monkeypatch, capsys):
    with pytest.raises(RunFailed):
        finished(audited(), out=tmp_path / "run")
    monkeypatch.setattr("sys.argv", ["fedlab", "audit", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "is broken" in " ".join(capsys.readouterr().err.split())


def test_an_open_round_makes_every_bound_hold():
    federation = finished(audited("rounds=1", 'defenses.dp-sgd.clients="0"'))
    assert math.isinf(federation.audit.ledger)
    assert federation.audit.bound.epsilon > 1
    assert verdict_of(federation.folder) == federation.audit


def test_scores_survive_a_resume(sound, tmp_path, monkeypatch):
    federation = Federation(audited(), out=tmp_path / "run")
    federation.step()
    resumed = Federation.resume(tmp_path / "run")
    resumed.run()
    assert resumed.audit == sound.audit
    again = Federation(audited(), out=tmp_path / "killed")
    again.step()
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            again.step()
    again = Federation.resume(tmp_path / "killed")
    again.run()
    # What was sent before the kill was seen, and counts on both sides.
    assert again.audit.updates == 4
    assert again.audit.ledger > sound.audit.ledger


def test_scores_of_another_audit_are_refused(tmp_path):
    Federation(audited(), out=tmp_path / "run").step()
    path = tmp_path / "run" / "scenario.toml"
    path.write_text(path.read_text().replace("canaries = 240", "canaries = 250"))
    with pytest.raises(BadInput, match=r"audit in .* is not what the run was started with"):
        Federation.resume(tmp_path / "run")


@pytest.mark.parametrize(
    ("override", "words"),
    [("audit.client=2", "clients go from 0 to 1"), ("audit.canaries=199", "200")],
)
def test_impossible_audits_are_refused(override, words):
    with pytest.raises(BadInput, match=words):
        audited(override)


def test_run_without_an_audit_is_refused(tmp_path):
    federation = Federation(Scenario(data={"train": 40, "test": 20, "clients": 2}))
    with pytest.raises(BadInput, match=r"\[audit\]"):
        federation.audit  # noqa: B018
    with pytest.raises(BadInput, match=r"\[audit\]"):
        verdict_of(RunFolder.open(federation.folder.path))


def test_verdict_of_an_earlier_version_has_no_gaussian_bound(sound, tmp_path):
    facts = json.loads((sound.folder.path / "audit.json").read_text())
    for name in ("gaussian", "estimate", "ceiling_10", "ceiling_100"):
        del facts[name]
    old = Federation(audited("rounds=1"), out=tmp_path / "old").folder
    (old.path / "audit.json").write_text(json.dumps(facts))
    assert verdict_of(old).tightest == sound.audit.bound
