"""The whole attack on real digits: it finds the images, and finds nothing where nothing is."""

from dataclasses import fields

import pytest
import torch
from torch import nn

from attacks.gradients import batch_gradient, clipped_gradient, unroll
from attacks.knowledge import Knowledge, LocalSGD
from attacks.payload import Payload
from attacks.reconstruction import AttackSettings, Reconstruction, invert
from attacks.reconstruction.objectives import cosine
from fedlab.data import load
from fedlab.metrics.images import match, psnr
from fedlab.models import build

ATTACK = AttackSettings(iterations=300, tv=1e-4)


@pytest.fixture(scope="module")
def victim():
    data = load("digits")
    model = build("convnet", shape=data.shape, classes=10, seed=3)
    return data, model


def some(data, count, seed=0):
    order = torch.randperm(len(data.train_labels), generator=seeded(seed))[:count]
    return data.pixels(data.train_images[order]), data.train_labels[order]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def state(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def gradient_payload(data, model, pixels, labels):
    found = batch_gradient(
        model, dict(model.named_parameters()), {}, data.normalise(pixels), labels
    )
    return Payload("gradient", found, num_examples=len(labels), steps=1)


def knowledge(data, n, labels=None, local=None, **more):
    return Knowledge(data.shape, 10, data.mean, data.std, n, labels, local, **more)


@pytest.mark.slow
def test_four_single_images_labels_inferred(victim):
    data, model = victim
    before = state(model)
    quality = []
    for seed in range(4):
        pixels, labels = some(data, 1, seed)
        payload = gradient_payload(data, model, pixels, labels)
        found = invert(model, before, payload, knowledge(data, 1), ATTACK, generator=seeded())
        assert found.labels.tolist() == labels.tolist()
        assert not found.labels_known
        assert found.images.shape == pixels.shape
        assert 0 <= float(found.images.min()) <= float(found.images.max()) <= 1
        assert found.cost <= float(found.costs.min()) + 1e-6
        quality.append(float(psnr(pixels, found.images)))
    assert sorted(quality)[1] > 35, quality
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training


def test_a_batch_of_two_with_labels(victim):
    data, model = victim
    pixels, labels = some(data, 2, seed=5)
    payload = gradient_payload(data, model, pixels, labels)
    found = invert(
        model, state(model), payload, knowledge(data, 2, labels), ATTACK, generator=seeded()
    )
    order, chosen = match(pixels, found.images)
    assert float(psnr(pixels[order], found.images[chosen]).min()) > 25
    assert found.labels_known


@pytest.mark.parametrize(("epochs", "size"), [(1, 1), (2, 2)])
def test_the_weights_after_local_training(victim, epochs, size):
    data, model = victim
    pixels, labels = some(data, 2, seed=7)
    local = LocalSGD(0.05, momentum=0.5, epochs=epochs, batch_size=size)
    start = state(model)
    after = unroll(model, start, {}, data.normalise(pixels), labels, local=local)
    payload = Payload(
        "weights",
        {name: value.detach() for name, value in after.items()},
        num_examples=2,
        steps=epochs * 2 // size,
    )
    found = invert(
        model, start, payload, knowledge(data, 2, labels, local), ATTACK, generator=seeded()
    )
    order, chosen = match(pixels, found.images)
    assert float(psnr(pixels[order], found.images[chosen]).median()) > 25


def test_random_noise_of_the_same_norm_gives_nothing(victim):
    data, model = victim
    pixels, labels = some(data, 1)
    true = gradient_payload(data, model, pixels, labels)
    noise = {
        name: torch.randn(tensor.shape, generator=seeded(1)) * tensor.norm() / tensor.numel() ** 0.5
        for name, tensor in true.tensors.items()
    }
    payload = Payload("gradient", noise, num_examples=1, steps=1)
    found = invert(
        model, state(model), payload, knowledge(data, 1, labels), ATTACK, generator=seeded()
    )
    assert float(psnr(pixels, found.images)) < 12


def test_same_generator_same_bits(victim):
    data, model = victim
    pixels, labels = some(data, 1)
    payload = gradient_payload(data, model, pixels, labels)
    short = AttackSettings(iterations=20)
    one, same, other = (
        invert(model, state(model), payload, knowledge(data, 1), short, generator=seeded(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(one.images, same.images)
    assert not torch.equal(one.images, other.images)


def test_of_several_restarts_the_cheapest_wins(victim):
    data, model = victim
    pixels, labels = some(data, 1)
    payload = gradient_payload(data, model, pixels, labels)
    known = knowledge(data, 1, labels)
    many = AttackSettings(iterations=15, restarts=4)
    best = invert(model, state(model), payload, known, many, generator=seeded())
    generator, once = seeded(), AttackSettings(iterations=15)
    alone = [
        invert(model, state(model), payload, known, once, generator=generator) for _ in range(4)
    ]
    costs = [one.cost for one in alone]
    assert best.cost == min(costs) < max(costs)
    assert best.restart == costs.index(min(costs))
    assert torch.equal(best.images, alone[best.restart].images)


def test_clipping_is_simulated_for_a_batch(victim):
    """Clipped per example at very different norms, a batch is only matched if clipping is known."""
    data, model = victim
    pixels, labels = some(data, 2, seed=2)
    sent = clipped_gradient(
        model,
        dict(model.named_parameters()),
        {},
        data.normalise(pixels),
        labels,
        clipping_norm=0.05,
    )
    payload = Payload("gradient", sent, num_examples=2, steps=1)
    found = invert(
        model,
        state(model),
        payload,
        knowledge(data, 2, labels, clipping_norm=0.05),
        ATTACK,
        generator=seeded(),
    )
    assert found.cost < 1e-2


class TestRefusals:
    def test_a_zero_gradient(self, victim):
        data, model = victim
        zeros = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
        payload = Payload("gradient", zeros, num_examples=1, steps=1)
        with pytest.raises(ValueError, match="no direction to match"):
            invert(
                model,
                state(model),
                payload,
                knowledge(data, 1, torch.tensor([1])),
                ATTACK,
                generator=seeded(),
            )

    def test_weights_without_the_local_training(self, victim):
        data, model = victim
        payload = Payload("weights", state(model), num_examples=1, steps=1)
        with pytest.raises(ValueError, match="local SGD is known"):
            invert(
                model,
                state(model),
                payload,
                knowledge(data, 1, torch.tensor([1])),
                ATTACK,
                generator=seeded(),
            )

    def test_tensors_that_the_network_does_not_have(self, victim):
        data, model = victim
        pixels, labels = some(data, 1)
        true = gradient_payload(data, model, pixels, labels).tensors
        for tensors in ({"more": torch.ones(3), **true}, {**true, "more": torch.ones(3)}):
            payload = Payload("gradient", tensors, num_examples=1, steps=1)
            with pytest.raises(ValueError, match="more"):
                invert(
                    model,
                    state(model),
                    payload,
                    knowledge(data, 1, labels),
                    AttackSettings(iterations=2),
                    generator=seeded(),
                )

    def test_tensors_that_only_the_network_has(self, victim):
        data, model = victim
        true = gradient_payload(data, model, *some(data, 1)).tensors
        less = {name: tensor for name, tensor in true.items() if name != "0.weight"}
        payload = Payload("gradient", less, num_examples=1, steps=1)
        with pytest.raises(ValueError, match=r"0\.weight of the network is missing"):
            invert(model, state(model), payload, knowledge(data, 1), ATTACK, generator=seeded())

    def test_tensors_of_other_shapes(self, victim):
        data, model = victim
        true = gradient_payload(data, model, *some(data, 1)).tensors
        payload = Payload("gradient", {**true, "0.weight": torch.ones(3)}, num_examples=1, steps=1)
        with pytest.raises(ValueError, match=r"0\.weight has different shapes"):
            invert(model, state(model), payload, knowledge(data, 1), ATTACK, generator=seeded())

    def test_a_gradient_that_is_not_finite(self, victim):
        data, model = victim
        true = gradient_payload(data, model, *some(data, 1)).tensors
        broken = {name: tensor * torch.nan for name, tensor in true.items()}
        payload = Payload("gradient", broken, num_examples=1, steps=1)
        with pytest.raises(ValueError, match="no direction to match"):
            invert(model, state(model), payload, knowledge(data, 1), ATTACK, generator=seeded())

    def test_a_payload_and_knowledge_without_images(self, victim):
        data, _ = victim
        with pytest.raises(ValueError, match="without tensors"):
            Payload("gradient", {}, num_examples=1, steps=1)
        with pytest.raises(ValueError, match="at least one example"):
            Payload("gradient", {"a": torch.ones(1)}, num_examples=0, steps=1)
        with pytest.raises(ValueError, match="no image to reconstruct"):
            knowledge(data, 0)
        with pytest.raises(ValueError, match="3 labels were given for 2 images"):
            knowledge(data, 2, torch.tensor([1, 2, 3]))


def test_batch_norm_in_the_clients_mode(victim):
    """The attacker's network follows the client's mode, and is put back into its own."""
    data, _ = victim
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
    pixels, labels = some(data, 2)
    model.train()
    found = batch_gradient(
        model,
        dict(model.named_parameters()),
        dict(model.named_buffers()),
        data.normalise(pixels),
        labels,
    )
    payload = Payload("gradient", found, num_examples=2, steps=1)
    model.eval()
    costs = {
        mode: invert(
            model,
            state(model),
            payload,
            knowledge(data, 2, labels, training_mode=mode),
            AttackSettings(iterations=60),
            generator=seeded(),
        ).cost
        for mode in (True, False)
    }
    assert costs[True] < costs[False]
    assert not model.training


def test_a_grey_image_is_no_reconstruction(victim):
    """What the thresholds above are held against: the best image that says nothing."""
    data, _ = victim
    for seed in range(4):
        pixels, _ = some(data, 1, seed)
        assert float(psnr(pixels, torch.full_like(pixels, float(pixels.mean())))) < 20


def test_best_iterate_is_returned(victim):
    data, model = victim
    pixels, labels = some(data, 1)
    payload = gradient_payload(data, model, pixels, labels)
    wild = AttackSettings(iterations=40, lr=1.0, tv=0.0, schedule="constant")  # it never settles
    found = invert(
        model, state(model), payload, knowledge(data, 1, labels), wild, generator=seeded(4)
    )
    assert float(found.costs[-1]) > found.cost * 1.1  # or the test would show nothing
    assert found.cost == pytest.approx(float(found.costs.min()), abs=1e-6)
    assert found.costs.shape == (40,)
    again = gradient_payload(data, model, found.images, found.labels)
    assert float(cosine(payload.tensors)(again.tensors)) == pytest.approx(found.cost, rel=1e-3)


def test_without_the_box_candidates_leave_it(victim):
    """The images are cut to [0, 1] at the end, and no longer have the cost that was reported."""
    data, model = victim
    pixels, labels = some(data, 1)
    payload = gradient_payload(data, model, pixels, labels)
    free = AttackSettings(iterations=25, lr=1.0, tv=0.0, boxed=False)
    found = invert(
        model, state(model), payload, knowledge(data, 1, labels), free, generator=seeded(4)
    )
    again = gradient_payload(data, model, found.images, found.labels)
    assert float(cosine(payload.tensors)(again.tensors)) > found.cost + 0.01
    assert 0 <= float(found.images.min()) <= float(found.images.max()) <= 1


@pytest.mark.parametrize(("epochs", "size"), [(1, 2), (1, 1), (3, 2)])
def test_labels_are_inferred_from_weights(victim, epochs, size):
    """The update is first divided by the learning rate and the steps."""
    data, model = victim
    order = torch.stack([(data.train_labels == c).nonzero()[0, 0] for c in (8, 3)])
    pixels, labels = data.pixels(data.train_images[order]), data.train_labels[order]
    local, start = LocalSGD(0.01, epochs=epochs, batch_size=size), state(model)
    after = unroll(model, start, {}, data.normalise(pixels), labels, local=local)
    payload = Payload(
        "weights",
        {name: value.detach() for name, value in after.items()},
        num_examples=2,
        steps=epochs * 2 // size,
    )
    found = invert(
        model,
        start,
        payload,
        knowledge(data, 2, local=local),
        AttackSettings(iterations=1),
        generator=seeded(),
    )
    assert found.labels.tolist() == [3, 8]


def test_a_mixture_with_its_soft_label(victim):
    data, model = victim
    pixels, labels = some(data, 2, seed=3)
    soft = torch.nn.functional.one_hot(labels, 10).float().mean(0, keepdim=True)
    mixed = pixels.mean(0, keepdim=True)
    payload = gradient_payload(data, model, mixed, soft)
    found = invert(
        model, state(model), payload, knowledge(data, 1, soft), ATTACK, generator=seeded()
    )
    assert float(psnr(mixed, found.images)) > 30


def test_there_is_no_truth_in_a_result():
    assert {field.name for field in fields(Reconstruction)} == {
        "images",
        "labels",
        "labels_known",
        "labels_guessed",
        "cost",
        "costs",
        "restart",
        "rounds",
        "seconds",
        "attack",
        "findings",
        "power",
    }


def test_the_network_is_left_as_it_was_found(victim):
    """Weights, statistics, gradients, and the mode of every layer: some may be frozen."""
    data, _ = victim
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)]
    model = nn.Sequential(*layers).train()
    model[1].eval()
    pixels, labels = some(data, 1)
    before = state(model)
    found = batch_gradient(
        model,
        dict(model.named_parameters()),
        dict(model.named_buffers()),
        data.normalise(pixels),
        labels,
    )
    payload = Payload("gradient", found, num_examples=1, steps=1)
    invert(
        model,
        before,
        payload,
        knowledge(data, 1, training_mode=False),
        AttackSettings(iterations=2),
        generator=seeded(),
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert [layer.training for layer in model] == [True, False, True, True, True]
