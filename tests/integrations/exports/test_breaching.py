"""Exported captures give breaching's attackers the right costs and labels."""

import importlib.util
import logging
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from attacks.knowledge import LocalSGD
from attacks.payload import Payload
from fedlab import BadInput
from fedlab.integrations.exports.breaching import (
    case_of,
    case_of_run,
    in_memory,
    read_case,
    write_case,
)
from fedlab.models import build
from fedlab.protocol.round_facts import RoundFacts
from fedlab.results.folder import RunFolder
from fedlab.server.captures import Capture
from tests.federations import finished, small

breaching = pytest.mark.skipif(
    importlib.util.find_spec("breaching") is None, reason="breaching, the peer, is not installed"
)

SHAPE, CLASSES, LR = (3, 16, 16), 10, 0.05
FACTS = {"shape": SHAPE, "classes": CLASSES, "mean": (0.5,), "std": (0.25,)}
TOLD = RoundFacts(lr=LR, momentum=0.0, weight_decay=0.0, epochs=1, batch_size=2)


def network(norm="batch"):
    return build("convnet8", shape=SHAPE, classes=CLASSES, width=4, norm=norm, seed=0)


def client(kind="gradient", *, count=4, told=TOLD, norm="batch"):
    """Images as they were normalised, labels, the Capture of training on them, and the network."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, *SHAPE, generator=generator)
    labels = torch.arange(count) % CLASSES
    model = network(norm)
    with torch.no_grad():  # running statistics that are not those of a new network
        model(torch.randn(16, *SHAPE, generator=generator))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.train(told.training_mode)
    optimizer = torch.optim.SGD(
        model.parameters(), LR, momentum=told.momentum, weight_decay=told.weight_decay
    )
    if kind == "gradient":
        loss = functional.cross_entropy(model(images), labels)
        gradient = torch.autograd.grad(loss, list(model.parameters()))
        names = [name for name, _ in model.named_parameters()]
        sent, steps = dict(zip(names, gradient, strict=True)), 1
    else:
        local = told.local_sgd
        for places in local.blocks(count):
            optimizer.zero_grad()
            functional.cross_entropy(model(images[places]), labels[places]).backward()
            optimizer.step()
        # A whole state_dict, as clients of a plain Flower app send it.
        sent, steps = {n: v.clone() for n, v in model.state_dict().items()}, local.steps(count)
    capture = Capture(1, (0,), state, Payload(kind, sent, num_examples=count, steps=steps), told)
    return images, labels, capture, network(norm)


def objective(case, model, images):
    """Breaching's own match of images to what was shared, by its attacker as it prepares it."""
    from hydra import compose, initialize_config_module

    with warnings.catch_warnings():
        # Breaching is older than PyTorch.
        warnings.simplefilter("ignore")
        import breaching

        with initialize_config_module("breaching.config.attack", version_base="1.3"):
            settings = compose("invertinggradients", overrides=["objective.type=euclidean"])
        setup = {"device": torch.device("cpu"), "dtype": torch.float}
        attacker = breaching.attacks.prepare_attack(model, nn.CrossEntropyLoss(), settings, setup)
        payload, shared = in_memory(case)
        models, labels, _ = attacker.prepare_attack(payload, shared)
        steps = shared[0]["metadata"]["local_hyperparams"]
        attacker.objective.initialize(attacker.loss_fn, attacker.cfg.impl, steps)
        value, _ = attacker.objective(models[0], shared[0]["gradients"], images, labels)
    size = sum(float(tensor.square().sum()) for tensor in shared[0]["gradients"])
    return value.item() / size, labels


@pytest.fixture(autouse=True)
def _quiet():
    log = logging.getLogger("breaching")
    level = log.level
    log.setLevel(logging.WARNING)
    yield
    log.setLevel(level)


MODES = {"training": TOLD, "evaluation": replace(TOLD, training_mode=False)}


@breaching
class TestBreachingsOwnObjective:
    @pytest.mark.parametrize("told", MODES.values(), ids=MODES)
    def test_gradient_cost_is_zero_at_true_images(self, tmp_path, told):
        images, labels, capture, model = client(told=told)
        write_case(case_of(capture, model, labels=labels, **FACTS), tmp_path / "case.pt")
        case = torch.load(tmp_path / "case.pt", weights_only=True)
        true, _ = objective(case, model, images)
        other, _ = objective(case, model, images.flip(3))
        assert true < 1e-6
        assert other > 1e-3

    @pytest.mark.parametrize("epochs", [1, 2])
    @pytest.mark.parametrize("told", MODES.values(), ids=MODES)
    def test_of_local_steps(self, told, epochs):
        told = replace(told, epochs=epochs)
        images, labels, capture, model = client("weights", told=told)
        case = case_of(capture, model, labels=labels, **FACTS)
        assert case["shared_data"]["metadata"]["local_hyperparams"]["steps"] == 2 * epochs
        true, _ = objective(case, model, images)
        other, _ = objective(case, model, images.flip(0))
        # Weights are rounded to their own size, which the change by local steps is far below.
        assert true < 1e-5
        assert other > 1e-3

    def test_cost_of_one_step_with_momentum_and_decay(self):
        told = replace(TOLD, batch_size=4, momentum=0.9, weight_decay=0.1)
        images, labels, capture, model = client("weights", told=told)
        case = case_of(capture, model, labels=labels, **FACTS)
        assert case["shared_data"]["metadata"]["local_hyperparams"] is None
        assert objective(case, model, images)[0] < 1e-4
        assert objective(case, model, images.flip(3))[0] > 0.01

    def test_of_what_was_captured_in_another_mode_is_not(self):
        images, labels, capture, model = client(told=MODES["evaluation"])
        wrong = replace(capture, facts=MODES["training"])
        case = case_of(wrong, model, labels=labels, **FACTS)
        assert objective(case, model, images)[0] > 1e-3

    def test_labels_that_were_not_given_are_inferred(self):
        images, _, capture, model = client(count=1)
        case = case_of(capture, model, **FACTS)
        value, labels = objective(case, model, images)
        assert labels.tolist() == [0]
        assert value < 1e-6


def test_file_is_read_without_running_code(tmp_path):
    _, labels, capture, model = client("weights", told=replace(TOLD, training_mode=False))
    case = case_of(capture, model, labels=labels.tolist(), **FACTS)
    write_case(case, tmp_path / "case.pt")
    (payload,), (shared,) = read_case(tmp_path / "case.pt")
    names = [name for name, _ in model.named_parameters()]
    assert case["names"] == names
    for name, sent, change in zip(names, payload["parameters"], shared["gradients"], strict=True):
        assert torch.equal(sent, capture.global_state[name])
        assert torch.equal(sent + change, sent + (capture.payload.tensors[name] - sent))
    for (name, _), sent in zip(model.named_buffers(), payload["buffers"], strict=True):
        assert torch.equal(sent, capture.global_state[name])
    facts = payload["metadata"]
    assert (facts.shape, facts.mean, facts.std) == ([3, 16, 16], [0.5] * 3, [0.25] * 3)
    assert (facts.modality, facts.task) == ("vision", "classification")
    assert shared["buffers"] is None
    steps = shared["metadata"]["local_hyperparams"]
    assert (steps["lr"], steps["steps"], steps["data_per_step"]) == (LR, 2, 2)
    assert [part.tolist() for part in steps["labels"]] == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    ("changes", "facts", "sentence"),
    [
        ({"momentum": 0.9}, {}, "plain SGD only"),
        ({"proximal_mu": 0.1}, {}, "plain SGD only"),
        ({}, {"labels": None}, "needs the labels of all 4 images"),
        ({"epochs": 2, "batch_size": 3}, {}, "whose last batch is smaller"),
        ({"lr": 0.0}, {}, "how the client trained is not known"),
        ({"singled_out": 3}, {}, "the last bias in it is not the target.s"),
        ({}, {"mean": (0.5, 0.5)}, "mean and std need 1 or 3 values"),
        ({}, {"labels": [0, 1, -1, 3]}, "label -1 is none of the"),
    ],
)
def test_training_that_breaching_lacks_is_refused(changes, facts, sentence):
    _, labels, capture, model = client("weights")
    capture = replace(capture, facts=replace(TOLD, **changes))
    with pytest.raises(BadInput, match=sentence):
        case_of(capture, model, **({"labels": labels} | FACTS | facts))


def test_missing_learning_rate_can_be_given():
    _, labels, capture, model = client("weights")
    capture = replace(capture, facts=replace(TOLD, lr=0.0))
    case = case_of(capture, model, labels=labels, local=LocalSGD(LR, batch_size=2), **FACTS)
    assert case["shared_data"]["metadata"]["local_hyperparams"]["lr"] == LR


def test_another_network_is_refused():
    _, labels, capture, _ = client()
    with pytest.raises(BadInput, match="what the server sent in round 1 lacks"):
        case_of(capture, build("mlp", shape=SHAPE, classes=CLASSES), labels=labels, **FACTS)


def test_a_reply_of_a_run(tmp_path):
    leak, attack = {"role": "leaking", "clients": "0"}, {"clients": "0", "iterations": 2}
    scenario = small(rounds=1, roles=[leak], reconstructions=[attack])
    finished(scenario, out=tmp_path / "run")
    run = RunFolder.open(tmp_path / "run")
    case = case_of_run(run, round=1, client=0, labels=[3])
    capture = Capture.load(run.captures, round=1, client=0)
    for name, tensor in zip(case["names"], case["shared_data"]["gradients"], strict=True):
        assert torch.equal(tensor, capture.payload.tensors[name])
    assert case["server_payload"]["metadata"]["shape"] == [1, 8, 8]
    with pytest.raises(BadInput, match="no reply of client 1 was kept"):
        case_of_run(run, round=1, client=1)
