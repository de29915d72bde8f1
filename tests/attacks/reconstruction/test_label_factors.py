"""Labels of batches on trained networks, from real gradients and public images."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from attacks.gradients import batch_gradient, unroll
from attacks.knowledge import Knowledge, LocalSGD, PublicImages
from attacks.payload import Payload
from attacks.reconstruction import AttackSettings, invert
from attacks.reconstruction.labels import apply_rule
from attacks.reconstruction.problem import Problem
from fedlab.data.loading import load
from fedlab.models import build
from tests.real_images import npz

BATCHES = 20


def trained(data):
    """A network after four passes over the training images."""
    model = build("convnet", shape=data.shape, classes=10, width=8, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        for batch in torch.split(torch.randperm(len(data.train_labels), generator=generator), 32):
            inputs = data.normalise(data.pixels(data.train_images[batch]))
            optimizer.zero_grad()
            functional.cross_entropy(model(inputs), data.train_labels[batch]).backward()
            optimizer.step()
    return model.eval()


class Bench:
    """A trained network and the updates of clients on training images."""

    def __init__(self, data):
        self.data, self.model = data, trained(data)
        self.parameters = {name: p.detach() for name, p in self.model.named_parameters()}
        self.public = PublicImages(data.pixels(data.test_images[:200]), data.test_labels[:200])

    def problem(self, places, *, local=None, public=True):
        data, labels = self.data, self.data.train_labels[places]
        images = data.normalise(data.pixels(data.train_images[places]))
        known = Knowledge(
            image_shape=data.shape,
            num_classes=10,
            mean=data.mean,
            std=data.std,
            num_images=len(places),
            local=local,
            training_mode=False,
            public=self.public if public else None,
        )
        if local is None:
            sent = batch_gradient(self.model, self.parameters, {}, images, labels)
        else:
            sent = unroll(self.model, self.parameters, {}, images, labels, local=local)
        payload = Payload(
            "gradient" if local is None else "weights",
            {name: tensor.detach() for name, tensor in sent.items()},
            num_examples=len(places),
            steps=1 if local is None else len(known.blocks),
        )
        return Problem.of(self.model, self.model.state_dict(), payload, known), labels

    def share_exact(self, rule, size, **options):
        generator = torch.Generator().manual_seed(size)
        hits = 0
        for _ in range(BATCHES):
            places = torch.randint(len(self.data.train_labels), (size,), generator=generator)
            problem, labels = self.problem(places, **options)
            found = problem.infer_labels(rule, generator)
            hits += found.tolist() == labels.sort().values.tolist()
        return hits / BATCHES


@pytest.fixture(scope="module")
def digits():
    return Bench(load("digits"))


@pytest.fixture(scope="module")
def clothes(tmp_path_factory):
    file = npz("fashion_mnist", tmp_path_factory.mktemp("data"), "--train", "4000", "--test", "200")
    return Bench(load(f"npz:{file}"))


@pytest.mark.parametrize("on", ["digits", "clothes"])
def test_auto_finds_batches_of_four_after_training(on, request):
    bench = request.getfixturevalue(on)
    former = bench.share_exact("counts", 4, public=False)
    assert bench.share_exact("auto", 4) >= max(0.8, former + 0.1)


@pytest.mark.parametrize("rule", ["auto", "conditional", "counts", "ilrg", "yin", "llg"])
def test_no_rule_drops_a_class_with_negative_bias(clothes, rule):
    generator = torch.Generator().manual_seed(0)
    for _ in range(BATCHES):
        places = torch.randint(4000, (6,), generator=generator)
        problem, _ = clothes.problem(places)
        layer = problem.last_layer(problem.outputs(generator))
        proved = set((layer.signal < 0).nonzero().flatten().tolist())
        found, _ = apply_rule(rule, layer, 6, layer.outputs.mean)
        assert proved <= set(found.tolist())


def test_expected_outputs_are_those_of_public_images(digits):
    problem, _ = digits.problem(torch.arange(4))
    outputs = problem.outputs(torch.Generator().manual_seed(0))
    with torch.no_grad():
        true = digits.model(problem.normalise(digits.public.images)).softmax(1)
    torch.testing.assert_close(outputs.mean, true.mean(0))
    for label in range(10):
        own = true[digits.public.labels == label].mean(0)
        torch.testing.assert_close(outputs.by_class[label], own)


def test_classes_without_labels_have_the_mean_output(digits):
    problem, _ = digits.problem(torch.arange(4))
    unlabelled = replace(problem.knowledge, public=PublicImages(digits.public.images))
    problem = replace(problem, knowledge=unlabelled)
    outputs = problem.outputs(torch.Generator().manual_seed(0))
    torch.testing.assert_close(outputs.by_class, outputs.mean.expand(10, -1))


def test_public_batches_are_of_the_clients_size():
    """BatchNorm in training mode normalises by the batch."""
    data = load("digits")
    model = build("convnet", shape=data.shape, classes=10, width=4, norm="batch", seed=0).train()
    public = PublicImages(data.pixels(data.test_images[:10]))
    known = Knowledge(data.shape, 10, data.mean, data.std, num_images=4, public=public)
    state = model.state_dict()
    sent = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    problem = Problem.of(model, state, Payload("gradient", sent, 4, 1), known)
    sizes = []
    model.register_forward_hook(lambda _, inputs, output: sizes.append(len(output)))
    assert len(problem.outputs(torch.Generator().manual_seed(0)).probabilities) == 8
    assert sizes == [4, 4]


def test_one_local_step_reveals_the_labels_as_well(digits):
    assert digits.share_exact("auto", 4, local=LocalSGD(lr=0.1, batch_size=4)) >= 0.7


@pytest.mark.parametrize(
    ("local", "drifted"),
    [
        (LocalSGD(lr=0.1, batch_size=2), False),
        (LocalSGD(lr=0.1, batch_size=4), False),
        (LocalSGD(lr=0.1, batch_size=4, epochs=2), True),
    ],
    ids=["two batches", "one step", "two epochs"],
)
def test_weights_are_averaged_over_several_epochs_only(digits, local, drifted):
    problem, _ = digits.problem(torch.arange(4), local=local)
    layer = problem.last_layer(problem.outputs(torch.Generator().manual_seed(0)))
    first, last = list(digits.parameters.values())[-2], list(problem.payload.tensors.values())[-2]
    torch.testing.assert_close(layer.weights, (first + last) / 2 if drifted else first)


def test_two_local_batches_reveal_the_labels_as_well(digits):
    assert digits.share_exact("auto", 4, local=LocalSGD(lr=0.05, batch_size=2)) >= 0.7


def test_labels_are_marked_as_guessed_in_the_result(digits):
    problem, _ = digits.problem(torch.arange(2))
    ones = {name: torch.ones_like(t) for name, t in problem.payload.tensors.items()}
    for payload, guessed in (
        (replace(problem.payload, tensors=ones), True),
        (problem.payload, False),
    ):
        found = invert(
            digits.model,
            digits.model.state_dict(),
            payload,
            problem.knowledge,
            AttackSettings(iterations=2),
            generator=torch.Generator().manual_seed(0),
        )
        assert found.labels_guessed == guessed


@pytest.mark.parametrize(
    ("defenses", "noise", "certain", "plain"),
    [
        ((), None, True, True),
        (("cutout",), None, True, True),
        (("pruning",), None, True, False),
        (("dp-sgd",), 1.0, False, False),
        (("dp-sgd",), 0.0, True, False),
        (("mixup",), None, False, False),
        (("my_package.defenses:Own",), None, False, False),
    ],
)
def test_what_a_defense_leaves_certain(digits, defenses, noise, certain, plain):
    problem, _ = digits.problem(torch.arange(4))
    known = replace(
        problem.knowledge,
        defenses=defenses,
        noise_multiplier=noise,
        clipping_norm=None if noise is None else 1.0,
    )
    problem = replace(problem, knowledge=known)
    layer = problem.last_layer(problem.outputs(torch.Generator().manual_seed(0)))
    assert (layer.certain, layer.plain) == (certain, plain)
