"""Tests of class fishing on handwritten digits."""

import pytest
import torch
from torch.nn import functional

from attacks.gradients import batch_gradient
from attacks.knowledge import Knowledge
from attacks.malicious_server.fishing import count_labels, fish_class, fish_feature, isolate
from attacks.payload import Payload
from attacks.reconstruction import AttackSettings, invert
from fedlab.data import load
from fedlab.metrics.images import psnr
from fedlab.models import build

BATCH = 16
PLACE = 8  # of the target's image in the batch
TARGETS = (0, 7)
SMALL = {"w": torch.ones(3, 2), "b": torch.ones(3), "c": torch.ones(4)}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def victim():
    data = load("digits")
    return data, build("convnet", shape=data.shape, classes=10, width=24, seed=3)


def batch(data, target):
    """Sixteen digits, of which one is the target's."""
    own = (data.train_labels == target).nonzero()[:1, 0]
    other = (data.train_labels != target).nonzero()[: BATCH - 1, 0]
    chosen = torch.cat([other[:PLACE], own, other[PLACE:]])
    return data.pixels(data.train_images[chosen]), data.train_labels[chosen]


def state(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def last(model):
    weight, bias = [name for name, _ in model.named_parameters()][-2:]
    return {"weight": weight, "bias": bias}


def gradient(data, model, parameters, pixels, labels):
    return batch_gradient(model, parameters, {}, data.normalise(pixels), labels)


def cosine(left, right):
    flat = [
        torch.cat([t.double().flatten() for t in tensors.values()]) for tensors in (left, right)
    ]
    return float(functional.cosine_similarity(*flat, dim=0))


def rebuild(data, model, parameters, found, target):
    known = Knowledge(data.shape, 10, data.mean, data.std, 1, torch.tensor([target]))
    payload = Payload("gradient", found, num_examples=BATCH, steps=1)
    attack = AttackSettings(iterations=300, tv=1e-4)
    return invert(model, parameters, payload, known, attack, generator=seeded()).images


@pytest.mark.parametrize("target", TARGETS)
class TestClass:
    def test_the_gradient_of_the_batch_is_that_of_the_targets_image(self, victim, target):
        data, model = victim
        pixels, labels = batch(data, target)
        own = slice(PLACE, PLACE + 1)
        honest = state(model)
        whole = gradient(data, model, honest, pixels, labels)
        assert cosine(whole, gradient(data, model, honest, pixels[own], labels[own])) < 0.3
        fished = fish_class(honest, **last(model), target=target)
        whole = gradient(data, model, fished, pixels, labels)
        single = gradient(data, model, fished, pixels[own], labels[own])
        assert cosine(whole, single) > 0.95  # the last layer's other rows are everyone's
        alone = isolate(whole, **last(model), target=target)
        for name, tensor in single.items():
            torch.testing.assert_close(BATCH * alone[name], tensor, atol=1e-6, rtol=1e-4)

    def test_a_large_multiplier_needs_no_isolation(self, victim, target):
        data, model = victim
        pixels, labels = batch(data, target)
        own = slice(PLACE, PLACE + 1)
        fished = fish_class(state(model), **last(model), target=target, multiplier=100.0, lift=1e6)
        whole = gradient(data, model, fished, pixels, labels)
        assert cosine(whole, gradient(data, model, fished, pixels[own], labels[own])) > 0.9999

    def test_the_image_is_rebuilt_from_the_fished_gradient(self, victim, target):
        data, model = victim
        pixels, labels = batch(data, target)
        fished = fish_class(state(model), **last(model), target=target)
        found = isolate(gradient(data, model, fished, pixels, labels), **last(model), target=target)
        images = rebuild(data, model, fished, found, target)
        assert float(psnr(pixels[PLACE : PLACE + 1], images)) > 25

    def test_from_the_honest_gradient_it_is_not(self, victim, target):
        data, model = victim
        pixels, labels = batch(data, target)
        honest = state(model)
        found = gradient(data, model, honest, pixels, labels)
        images = rebuild(data, model, honest, found, target)
        assert float(psnr(pixels, images.expand_as(pixels)).max()) < 18

    def test_the_labels_are_counted_exactly(self, victim, target):
        data, model = victim
        pixels, labels = batch(data, target)
        fished = fish_class(state(model), **last(model), target=target)
        found = gradient(data, model, fished, pixels, labels)[last(model)["bias"]]
        counts = count_labels(found, target=target, num_images=BATCH)
        assert counts.tolist() == torch.bincount(labels, minlength=10).tolist()


def test_other_classes_send_no_gradient(victim):
    data, model = victim
    pixels, labels = batch(data, 4)
    fished = fish_class(state(model), **last(model), target=4)
    others = labels != 4
    found = gradient(data, model, fished, pixels[others], labels[others])
    weight, bias = (found.pop(name) for name in last(model).values())
    assert not any(tensor.any() for tensor in found.values())
    assert not weight[4].any()
    assert not bias[4]
    assert weight.any()


def test_several_fished_images_leave_their_mean(victim):
    data, model = victim
    pixels, labels = data.pixels(data.train_images[:40]), data.train_labels[:40]
    fished = fish_class(state(model), **last(model), target=3)
    own = labels == 3
    assert int(own.sum()) > 1
    alone = isolate(gradient(data, model, fished, pixels, labels), **last(model), target=3)
    expected = gradient(data, model, fished, pixels[own], labels[own])
    for name, tensor in expected.items():
        share = 40 / int(own.sum())
        torch.testing.assert_close(share * alone[name], tensor, atol=1e-6, rtol=1e-4)


def test_fishing_works_without_a_bias(victim):
    data, _ = victim
    model = build("convnet", shape=data.shape, classes=10, width=24, seed=3)
    model[-1].bias = None
    pixels, labels = batch(data, 0)
    own = slice(PLACE, PLACE + 1)
    names = {"weight": last(model)["bias"], "bias": None}
    fished = fish_class(state(model), **names, target=0, multiplier=100.0)
    alone = isolate(gradient(data, model, fished, pixels, labels), **names, target=0)
    single = gradient(data, model, fished, pixels[own], labels[own])
    assert cosine(alone, single) > 1 - 1e-6


class TestFeature:
    @staticmethod
    def one_class(data, model, target):
        """Sixteen digits of one class, a direction of their features, and where to cut it."""
        chosen = (data.train_labels == target).nonzero()[:BATCH, 0]
        pixels, labels = data.pixels(data.train_images[chosen]), data.train_labels[chosen]
        with torch.no_grad():
            features = model[:-1](data.normalise(pixels))
        direction = functional.normalize(torch.randn(features.shape[1], generator=seeded(1)), dim=0)
        values, order = (features @ direction).sort()
        cut = float(values[:2].mean())
        return pixels, labels, int(order[0]), {"direction": direction, "cut": cut}

    @pytest.mark.parametrize("target", TARGETS)
    def test_of_one_class_the_image_below_the_cut_is_left_and_rebuilt(self, victim, target):
        data, model = victim
        pixels, labels, lowest, where = self.one_class(data, model, target)
        own = slice(lowest, lowest + 1)
        honest = state(model)
        before = cosine(
            gradient(data, model, honest, pixels, labels),
            gradient(data, model, honest, pixels[own], labels[own]),
        )
        options = {**last(model), "target": target, **where, "multiplier": 1e5}
        fished = fish_feature(honest, **options)
        whole = gradient(data, model, fished, pixels, labels)
        single = gradient(data, model, fished, pixels[own], labels[own])
        assert before < 0.95
        for name, tensor in single.items():
            torch.testing.assert_close(BATCH * whole[name], tensor, atol=1e-4, rtol=1e-4)
        higher = fish_feature(honest, **(options | {"cut": where["cut"] + 10}))
        images = rebuild(data, model, higher, whole, target)
        assert float(psnr(pixels[own], images)) > 25

    def test_other_classes_send_above_the_cut(self, victim):
        data, model = victim
        pixels, labels, lowest, where = self.one_class(data, model, 0)
        own = slice(lowest, lowest + 1)
        options = {**last(model), **where, "multiplier": 1e5, "target": 5}
        fished = fish_feature(state(model), **options)
        below = gradient(data, model, fished, pixels[own], labels[own])
        whole = gradient(data, model, fished, pixels, labels)
        first = next(iter(below))
        assert not below[first].any()
        assert whole[first].any()


class TestWrongInput:
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"target": 3}, "from 0 to 2"),
            ({"target": -1}, "from 0 to 2"),
            ({"weight": "x"}, "has no x"),
            ({"weight": "b"}, "not those of a linear layer"),
            ({"bias": "c"}, "not those of a linear layer"),
            ({"multiplier": 0.0}, "must be above 0"),
            ({"lift": -1.0}, "must be above 0"),
        ],
    )
    def test_class(self, wrong, message):
        options = {"weight": "w", "bias": "b", "target": 0} | wrong
        with pytest.raises(ValueError, match=message):
            fish_class(SMALL, **options)

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"direction": torch.ones(3)}, "has 2 features"),
            ({"multiplier": -1.0}, "must be above 0"),
        ],
    )
    def test_feature(self, wrong, message):
        options = {"weight": "w", "bias": "b", "target": 0, "direction": torch.ones(2), "cut": 0.0}
        with pytest.raises(ValueError, match=message):
            fish_feature(SMALL, **(options | wrong))

    def test_nothing_given_is_changed(self):
        before = {name: tensor.clone() for name, tensor in SMALL.items()}
        fish_class(SMALL, weight="w", bias="b", target=0)
        isolate(SMALL, weight="w", bias="b", target=0)
        assert all(torch.equal(SMALL[name], value) for name, value in before.items())
