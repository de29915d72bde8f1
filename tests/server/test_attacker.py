"""The attacker in the server is told what any server knows, and nothing that was not granted."""

from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import pytest
import torch

from attacks.payload import Payload
from attacks.reconstruction.presets import PRESETS
from fedlab.client.client_round import run_client_round
from fedlab.client.federated_data import FederatedData
from fedlab.evaluation.attack_evaluator import AttackEvaluator
from fedlab.protocol.planning import task_for
from fedlab.protocol.round_facts import RoundFacts, round_facts, scheduled_facts
from fedlab.scenario.tables import Reconstruct
from fedlab.server import attack_memory
from fedlab.server.attacker import Attacker, attack_of
from fedlab.server.captures import Capture
from tests.federations import finished, small

LEAK = {"role": "leaking", "clients": "0", "batch_size": 2}
QUICK = Reconstruct(iterations=3)


@pytest.fixture(scope="module")
def captures():
    """What the server saw of a leaking and of an honest client."""
    federation = finished(small(roles=[LEAK], rounds=1, captures={"keep": "all"}))
    return [Capture.load(federation.folder.captures, round=1, client=client) for client in (0, 1)]


def attacker(seed=0):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    return Attacker(model, (1, 8, 8), 10, (0.3,), (0.4,), torch.device("cpu"))


def capture_of(attacked, images=2, num_examples=2):
    """The true gradient of some random images at some random weights."""
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(images, 1, 8, 8, generator=generator)
    model = attacked.model
    state = {
        name: torch.randn(value.shape, generator=generator) / 8
        for name, value in model.state_dict().items()
    }
    outputs = torch.func.functional_call(model, state, (inputs,))
    assert outputs.shape == (images, 10)
    leaves = {name: value.clone().requires_grad_() for name, value in state.items()}
    loss = torch.nn.functional.cross_entropy(
        torch.func.functional_call(model, leaves, (inputs,)), torch.arange(images)
    )
    gradient = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
    payload = Payload("gradient", gradient, num_examples=num_examples, steps=1)
    return Capture(4, (6,), state, payload, RoundFacts(0.1, 0.0, 0.0, 1, 2))


def start():
    return torch.Generator().manual_seed(1)


def test_it_knows_no_labels_unless_they_are_granted(captures):
    leaking, _ = captures
    blind = attacker().knowledge(leaking, QUICK)
    assert blind.labels is None
    assert blind.num_images == leaking.payload.num_examples == 2
    granted = attacker().knowledge(leaking, QUICK, torch.tensor([3, 1, 4]))
    assert granted.labels.tolist() == [3, 1, 4]
    assert granted.num_images == 3


def test_local_training_is_known_for_weights(captures):
    leaking, honest = captures
    assert attacker().knowledge(leaking, QUICK).local is None
    local = attacker().knowledge(honest, QUICK).local
    told = honest.facts
    assert (local.lr, local.momentum, local.weight_decay) == (
        told.lr,
        told.momentum,
        told.weight_decay,
    )
    assert (local.epochs, local.batch_size) == (1, 16)


def test_announced_defenses_are_known(captures):
    told = replace(captures[0].facts, defenses=("dp-sgd",), clipping_norm=0.7)
    knowledge = attacker().knowledge(replace(captures[0], facts=told), QUICK)
    assert (knowledge.defenses, knowledge.clipping_norm) == (("dp-sgd",), 0.7)


@pytest.mark.parametrize("client", [0, 1])
def test_client_assumes_a_well_informed_attacker(client):
    """Whatever the server knows of a defense, the leakage gate knows, and the other way round."""
    stack = [
        {"name": "dp-sgd", "noise_multiplier": 0.5, "rounds": "1"},
        {"name": "dp-instahide", "k": 3, "rounds": "2"},
        {"name": "clip-noise", "clipping_norm": 0.5, "noise_multiplier": 3.0},
    ]
    training = {"momentum": 0.5, "epochs": 2, "mode": "eval", "batch_size": 16, "lr": 0.05}
    scenario = small(rounds=2, roles=[LEAK], defenses=stack, training=training)
    federated = FederatedData.of(scenario)
    server = Attacker(
        federated.model,
        federated.data.shape,
        10,
        federated.data.mean,
        federated.data.std,
        torch.device("cpu"),
    )
    for round in (1, 2):
        task = task_for(scenario, round=round, client=client)
        state = {name: value.clone() for name, value in federated.model.state_dict().items()}
        payload = run_client_round(task, federated, state, ()).sent
        capture = Capture(round, (client,), state, payload, scheduled_facts(task, scenario))
        own = round_facts(task, task.defenses).knowledge(
            shape=federated.data.shape,
            num_classes=10,
            mean=federated.data.mean,
            std=federated.data.std,
            kind=payload.kind,
            num_images=payload.num_examples,
        )
        assert own == server.knowledge(capture, Reconstruct())
        assert (own.update_clipping_norm, own.update_noise) == (0.5, 1.5)
        assert (own.local is None) == (client == 0)


def test_mode_is_a_round_fact_or_an_assumption(captures):
    told = replace(captures[0].facts, training_mode=False)
    capture = replace(captures[0], facts=told)
    assert not attacker().knowledge(capture, QUICK).training_mode
    assert attacker().knowledge(capture, QUICK.model_copy(update={"mode": "train"})).training_mode
    assert attacker().knowledge(captures[0], QUICK).training_mode


def test_the_order_is_assumed_unless_it_is_granted(captures):
    _, honest = captures
    average = Reconstruct(order="average")
    assert attacker().knowledge(honest, average).order == "average"
    granted = (torch.tensor([1, 0]),)
    known = Reconstruct(order="known")
    assert attacker().knowledge(honest, known, None, granted).order == granted
    assert attacker().knowledge(honest, known).order == "sequential"


def test_attack_adapts_to_noise_unless_disabled():
    one = attacker()
    capture = capture_of(one)
    told = replace(capture.facts, defenses=("dp-sgd",), clipping_norm=1.0, noise_multiplier=1.0)
    noisy = replace(capture, facts=told)
    labels = torch.tensor([0, 1])
    tuned = one.attack(noisy, QUICK, labels=labels, generator=start())
    assert tuned.attack.objective == "l2"
    fixed = QUICK.model_copy(update={"adapt": False})
    assert one.attack(noisy, fixed, labels=labels, generator=start()).attack.objective == "cosine"


def test_own_weights_are_unused_and_capture_unchanged():
    one, other = attacker(1), attacker(2)
    assert not torch.equal(one.model[1].weight, other.model[1].weight)
    capture = capture_of(one)
    before = capture.global_digest, capture.reply_digest
    labels = torch.tensor([0, 1])
    first = one.attack(capture, QUICK, labels=labels, generator=start())
    second = other.attack(capture, QUICK, labels=labels, generator=start())
    assert torch.equal(first.images, second.images)
    fresh = replace(capture)
    assert (fresh.global_digest, fresh.reply_digest) == before


def test_update_of_too_many_images_is_refused():
    one = attacker()
    capture = capture_of(one, num_examples=65)
    with pytest.raises(ValueError, match=r"the update averages 65 images; more than 64"):
        one.attack(capture, QUICK, labels=None, generator=start())


MANY, LABELS = QUICK.model_copy(update={"most_images": 65}), torch.zeros(65, dtype=torch.int64)


def test_more_images_are_attacked_where_asked_for():
    one = attacker()
    capture = capture_of(one, num_examples=65)
    found = one.attack(capture, MANY, labels=LABELS, generator=start())
    assert len(found.images) == 65


def test_more_images_than_fit_into_memory_are_refused(monkeypatch):
    free = SimpleNamespace(available=1_000)
    monkeypatch.setattr(attack_memory.psutil, "virtual_memory", lambda: free)
    one = attacker()
    capture = capture_of(one, num_examples=65)
    with pytest.raises(ValueError, match=r"65 images would take about .* GiB of memory, and 0.0"):
        one.attack(capture, MANY, labels=LABELS, generator=start())
    found = one.attack(capture_of(one), MANY, labels=LABELS[:2], generator=start())
    assert len(found.images) == 2


def test_entry_replaces_only_its_own_settings():
    preset = PRESETS["auto"]
    assert attack_of(Reconstruct()) == preset
    changed = attack_of(Reconstruct(iterations=7, tv=0.0, lr=0.3, restarts=2))
    assert changed == replace(preset, iterations=7, tv=0.0, lr=0.3, restarts=2)
    assert PRESETS["auto"] is preset


HONEST = {
    "sgd": {},
    "momentum and weight decay": {"training": {"momentum": 0.9, "weight_decay": 5e-4}},
    "norm bias": {"training": {"weight_decay": 0.05, "norm_target": 100.0}},
    "several epochs": {"training": {"epochs": 3, "lr": 0.02}},
    "FedProx": {
        "training": {"epochs": 2},
        "server": {"strategy": "FedProx", "options": {"proximal_mu": 1}},
    },
    "DP-SGD": {"defenses": [{"name": "dp-sgd", "noise_multiplier": 1.0}]},
    "BatchNorm": {"model": {"name": "resnet8", "norm": "batch", "width": 4}},
    "evaluation mode": {
        "model": {"name": "resnet8", "norm": "batch", "width": 4},
        "training": {"mode": "eval", "lr": 0.01},
    },
    "leaking": {"roles": [{"role": "leaking", "clients": "0-3", "batch_size": 2}]},
}


@pytest.mark.parametrize("tables", HONEST.values(), ids=HONEST)
def test_honest_clients_raise_no_finding(tables):
    federation = finished(small(rounds=2, captures={"keep": "all"}, **tables))
    one = AttackEvaluator(federation.scenario, federation.federated).attacker
    cheap = Reconstruct(iterations=1, label_rule="counts")
    for round, client in product((1, 2), range(4)):
        capture = Capture.load(federation.folder.captures, round=round, client=client)
        assert one.attack(capture, cheap, labels=None, generator=start()).findings == ()


def test_client_that_scales_its_update_is_named(caplog):
    roles = [{"role": "poisoning", "clients": "1", "update": {"attack": "scaling", "factor": 10.0}}]
    attacks = [{"iterations": 1, "labels": "inferred"}]
    finished(small(rounds=1, roles=roles, reconstructions=attacks))
    said = [each.message for each in caplog.records if "attacker" in each.name]
    assert [sentence[:18] for sentence in said] == ["round 1: client 1:"]
