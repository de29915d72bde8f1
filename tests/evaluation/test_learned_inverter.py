"""The learned inverter within a federation: what it learns from, what it finds, what it refuses."""

import pytest
import torch

from attacks.reconstruction import Reconstruction
from fedlab import Federation
from fedlab.core.errors import BadInput
from fedlab.evaluation import learned_inverter, self_tuning
from fedlab.evaluation.referee import Referee
from fedlab.evaluation.replay import replay
from fedlab.evaluation.surrogates import ClientProfile, images_dealt, surrogate_examples
from fedlab.metrics.chance import class_means
from fedlab.metrics.verdict import LEAKS
from fedlab.protocol.planning import task_for
from fedlab.server.captures import Capture
from tests.federations import finished, small

LEAK = {"role": "leaking", "clients": "0-2", "batch_size": 1}
LEARNED = {"clients": "0-2", "preset": "learned", "iterations": 12, "tuning_iterations": 600}
LOUD = {"name": "dp-sgd", "noise_multiplier": 50.0}
FISHING = {"attack": "class-fishing", "clients": "0", "target": 3}
FEW = LEARNED | {"iterations": 1, "tuning_iterations": 20}


def scenario(*overrides, attack=LEARNED, role=LEAK, **tables):
    own = {"roles": [role], "reconstructions": [attack], "rounds": 1} | tables
    return small("data.test=360", *overrides, **own)


def original(federation):
    table = federation.folder.table("leakage")
    return table[table["target"] == "original"]


@pytest.fixture(scope="module")
def opened():
    return finished(scenario())


@pytest.fixture(scope="module")
def drowned():
    return finished(scenario(defenses=[LOUD]))


def test_open_gradients_are_inverted_above_chance(opened):
    rows = original(opened)
    assert len(rows) == 3
    gained = rows["aligned_psnr"] - rows["chance_class_mean"]
    assert gained.min() > 0
    assert gained.median() > 2


def test_clients_of_a_kind_share_one_training(opened):
    rows = original(opened)
    assert (rows["tuning_seconds"] > 0).sum() == 1
    assert rows["choice"].str.fullmatch(r"learned from 600 simulated clients in \d+ epochs").all()


def test_a_new_run_rebuilds_the_same_bits(opened):
    columns = ["client", "psnr", "ssim", "choice", "verdict"]
    assert original(finished(scenario()))[columns].equals(original(opened)[columns])


def test_the_class_mean_is_no_leak(drowned):
    rows = original(drowned)
    # Noise leaves nothing but the labels, so the best guess is the mean image of the class.
    assert (rows["aligned_psnr"] < rows["chance_psnr"] + 1).all()
    assert not (rows["verdict"] == LEAKS).any()


def test_the_exact_class_mean_is_no_leak(drowned):
    data = drowned.federated.data
    means = class_means(data.test_images, data.test_labels, classes=10)
    for client in range(3):
        capture = Capture.load(drowned.folder.captures, round=1, client=client)
        tasks = {client: task_for(drowned.scenario, round=1, client=client)}
        truth = replay(drowned.federated, capture, tasks, {})
        found = Reconstruction(images=means[truth.labels], labels=truth.labels)
        referee = Referee(drowned.federated)
        (row,) = referee.score(capture, tasks, truth, found, preset="learned").rows
        assert row.verdict != LEAKS
        assert row.aligned_psnr == pytest.approx(row.chance_class_mean, abs=0.5)


def test_power_is_measured_on_images_of_its_own(monkeypatch):
    parts, numbers = [], []
    examples, captures = surrogate_examples, self_tuning.surrogate_captures

    def learning(*arguments, **options):
        for each in examples(*arguments, **options):
            parts.append(each.truth.inputs)
            yield each

    def measuring(*arguments, **options):
        for each in captures(*arguments, **options):
            numbers.append(each.truth.inputs)
            yield each

    monkeypatch.setattr(learned_inverter, "surrogate_examples", learning)
    monkeypatch.setattr(self_tuning, "surrogate_captures", measuring)
    rows = original(finished(scenario(attack=LEARNED | {"power": True, "clients": "0"})))
    assert rows["power"].between(0, 1).all()
    known = torch.cat(parts).flatten(1)
    for image in torch.cat(numbers).flatten(1):
        assert not (known == image).all(1).any()


def test_held_out_images_are_not_trained_on(opened):
    task = task_for(opened.scenario, round=1, client=0)
    capture = Capture.load(opened.folder.captures, round=1, client=0)
    profiles = [ClientProfile(task, (), 1)]
    assert images_dealt(profiles, 360) == 4
    halves = [
        torch.cat(
            [
                each.truth.inputs
                for each in surrogate_examples(
                    opened.federated, profiles, capture, numbers=range(100), part=part
                )
            ]
        )
        for part in (slice(0, 180), slice(180, None))
    ]
    same = torch.cdist(*(half.flatten(1) for half in halves)) == 0
    assert not same.any()
    assert all(len(half) == 100 for half in halves)


def test_examples_run_the_defense_of_the_client(drowned):
    task = task_for(drowned.scenario, round=1, client=0)
    capture = Capture.load(drowned.folder.captures, round=1, client=0)
    noisy, plain = (
        next(
            surrogate_examples(
                drowned.federated,
                [ClientProfile(task, defenses, 1)],
                capture,
                numbers=range(1),
                part=slice(None),
            )
        ).capture.payload.tensors
        for defenses in (task.defenses, ())
    )
    lengths = [sum(t.square().sum() for t in each.values()).sqrt() for each in (noisy, plain)]
    assert lengths[0] > 50 * lengths[1]


def test_weights_of_several_steps_are_learned():
    shards = {"train": 16, "test": 360, "clients": 4}
    tables = {"data": shards, "training": {"batch_size": 2, "epochs": 2}}
    rows = original(finished(scenario(attack=FEW | {"clients": "3"}, **tables)))
    assert len(rows) == 4
    assert rows["psnr"].notna().all()
    assert rows["choice"].str.startswith("learned from").all()


def test_batches_and_inferred_labels_are_learned():
    role = LEAK | {"batch_size": 3}
    rows = original(finished(scenario(attack=FEW | {"labels": "inferred"}, role=role)))
    assert len(rows) == 9
    assert rows["psnr"].notna().all()


def test_mixtures_are_learned():
    defense = {"name": "dp-instahide", "k": 2}
    rows = original(finished(scenario(attack=FEW, defenses=[defense])))
    assert rows["psnr"].notna().all()
    assert not (rows["verdict"] == LEAKS).any()


def test_a_sum_of_clients_is_learned():
    secure = {"name": "secure-aggregation", "clients": "0-2"}
    rows = original(finished(scenario(attack=FEW, defenses=[secure])))
    assert len(rows) == 3
    assert rows["psnr"].notna().all()


def test_poisson_batches_are_learned():
    role = LEAK | {"batch_size": 2, "sampling": "poisson"}
    run = finished(scenario(attack=FEW, role=role, defenses=[LOUD]))
    table = run.folder.table("leakage")
    assert table["skipped"].fillna("").eq("").all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"role": LEAK | {"batch_size": 9}}, "at most 8 images of an update"),
        ({"data": {"train": 160, "test": 30, "clients": 4}}, "at least 52 public images"),
        (
            {"server": {"malicious": FISHING}, "role": LEAK | {"batch_size": 40}},
            "for servers that change nothing",
        ),
        ({"attack": FEW | {"method": "learned", "preset": "fast"}}, "nothing was trained"),
    ],
)
def test_what_cannot_be_learned_is_said_in_one_sentence(changes, said):
    attack = {"attack": FEW | {"clients": "0"}} | changes
    table = finished(scenario(**attack)).folder.table("leakage")
    assert table["skipped"].str.contains(said).any()


def test_a_gate_cannot_learn():
    with pytest.raises(BadInput, match="no simulated clients to train the preset learned on"):
        small(defenses=[{"name": "leakage-gate", "preset": "learned"}])


def test_only_some_inverters_are_kept(monkeypatch):
    monkeypatch.setattr(self_tuning, "INVERTERS", 1)
    run = Federation(scenario(rounds=2, attack=FEW))
    run.run()
    assert len(run._evaluator._self_tuning._inverters) == 1
    assert (original(run)["tuning_seconds"] > 0).sum() == 2  # one for the weights of each round
