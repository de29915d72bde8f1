"""The learned inverter on updates that are a known function of the images."""

import pickle
from dataclasses import replace

import pytest
import torch
from torch import nn

from attacks.gradients import batch_gradient
from attacks.knowledge import Knowledge
from attacks.payload import Payload
from attacks.reconstruction import PRESETS, invert, inverter_training
from attacks.reconstruction.inverter_training import Example, train_inverter
from attacks.reconstruction.update_reader import UpdateReader

SHAPE = (1, 4, 4)
ENTRIES = 40


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """A narrower network, which these images need no more of."""
    monkeypatch.setattr(inverter_training, "WIDTH", 96)


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count, *, n=1, seed=0):
    """Images of a few shapes, whose pixels depend on each other; uint8 [count, n, 1, *SHAPE]."""
    shapes = torch.rand(3, 16, generator=draws(7))
    weights = torch.rand(count * n, 3, generator=draws(seed))
    pixels = (weights @ shapes) / 3
    return (255 * pixels).round().to(torch.uint8).view(count, n, 1, *SHAPE)


def examples(count, *, n=1, noise=0.0, signal=1.0, seed=0):
    """Updates that are the sum of a linear function of each image, and noise."""
    matrix = torch.randn(ENTRIES, 16, generator=draws(8))
    some = images(count, n=n, seed=seed)
    update = signal * (some.float().div(255).flatten(2).sum(1) @ matrix.T)
    update += noise * torch.randn(update.shape, generator=draws(seed + 100))
    read = reader()
    return [Example(read({"a": one}, None), own) for one, own in zip(update, some, strict=True)]


def reader():
    return UpdateReader.of({"a": torch.zeros(ENTRIES)}, generator=draws(9))


def trained(some, judges, *, n=1, epochs=30, seed=0, **options):
    return train_inverter(
        some,
        judges,
        reader=reader(),
        num_images=n,
        epochs=epochs,
        generator=draws(seed),
        **options,
    )


def spread(some):
    """Mean squared error of the mean image."""
    pixels = torch.cat([one.images for one in some]).float().div(255)
    return float(pixels.var(0, correction=0).mean())


def test_an_open_update_is_inverted():
    some = examples(1_500)
    found = trained(some, examples(200, seed=1))
    assert float(found.costs.min()) < 0.05 * spread(some)
    one = examples(1, seed=2)[0]
    error = (found.images(one.read.unsqueeze(0))[0] - one.images[:, 0] / 255).square().mean()
    assert float(error) < 0.1 * spread(some)


def test_noise_alone_gives_the_mean_image():
    some = examples(1_500, signal=0.0, noise=1.0)
    found = trained(some, examples(300, signal=0.0, noise=1.0, seed=1))
    mean = torch.cat([one.images for one in some]).float().div(255).mean(0)
    rebuilt = found.images(torch.stack([one.read for one in examples(20, noise=1.0, signal=0.0)]))
    assert (rebuilt[:, 0] - mean).abs().max() < 0.1
    assert float(found.costs.min()) == pytest.approx(spread(some), rel=0.1)


def test_images_of_a_batch_are_told_apart():
    judges = examples(300, n=2, seed=1)
    found = trained(examples(3_000, n=2), judges, n=2)
    # Both outputs at the mean of the batch would leave half of the variance.
    assert float(found.costs.min()) < 0.35 * spread(judges)


def test_order_in_a_batch_does_not_matter():
    some = examples(300, n=2)
    turned = [one._replace(images=one.images.flip(0)) for one in some]
    costs = [
        trained(each, examples(50, n=2, seed=1), n=2, epochs=2).costs for each in (some, turned)
    ]
    assert costs[0] == pytest.approx(costs[1], rel=1e-3)


def test_any_image_of_a_mixture_counts():
    first, second = images(400, seed=3), images(400, seed=4)
    mixed = [
        Example(one.read, torch.cat([a, b], 1))
        for one, a, b in zip(examples(400, signal=0.0, noise=1.0), first, second, strict=True)
    ]
    alone = [one._replace(images=one.images[:, :1]) for one in mixed]
    both, single = (
        trained(each[:300], each[300:], epochs=5).costs.min() for each in (mixed, alone)
    )
    assert float(both) < 0.8 * float(single)


def test_an_absent_image_of_a_batch_costs_nothing():
    some = examples(600, n=2)
    short = [one._replace(images=one.images[:1]) if i % 2 else one for i, one in enumerate(some)]
    found = trained(short[:500], short[500:], n=2, epochs=3)
    assert found.costs.isfinite().all()
    assert found.images(short[1].read.unsqueeze(0)).shape == (1, 2, *SHAPE)


def test_training_ends_when_the_held_out_error_stalls():
    done = []
    found = trained(
        examples(100, noise=5.0), examples(50, noise=5.0, seed=1), epochs=200, tell=done.append
    )
    assert len(found.costs) == len(done) < 180
    # The network is that of the lowest error, and not the last one.
    judges = examples(50, noise=5.0, seed=1)
    truth = torch.stack([one.images[:, 0] for one in judges]).float() / 255
    again = (found.images(torch.stack([one.read for one in judges])) - truth).square().mean()
    assert float(again) == pytest.approx(float(found.costs.min()), rel=1e-3)


def test_same_seed_trains_the_same_bits():
    data = examples(200), examples(40, seed=1)
    first, again, other = (trained(*data, epochs=2, seed=seed) for seed in (0, 0, 1))
    one = data[1][0].read.unsqueeze(0)
    assert torch.equal(first.images(one), again.images(one))
    assert not torch.equal(first.images(one), other.images(one))


def test_without_examples_nothing_is_trained():
    with pytest.raises(ValueError, match="no simulated client sent an update"):
        trained([], [])


class TestAttack:
    """The trained network as the method of an attack on a small network's gradients."""

    @pytest.fixture
    def model(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return nn.Sequential(nn.Flatten(), nn.Linear(16, 5))

    def payload(self, model, pixels, labels):
        parts = dict(model.named_parameters()), {}
        gradient = batch_gradient(model, *parts, pixels, labels)
        return Payload("gradient", gradient, num_examples=len(labels), steps=1)

    def known(self, count, **more):
        return Knowledge(
            image_shape=SHAPE, num_classes=5, mean=(0.0,), std=(1.0,), num_images=count, **more
        )

    def inverter(self, model, n):
        read = UpdateReader.of(dict(model.named_parameters()), generator=draws(9), classes=5)
        labels = torch.randint(5, (1_200, n), generator=draws(4))
        some = [
            Example(read(self.payload(model, own[:, 0] / 255, of).tensors, of), own)
            for own, of in zip(images(1_200, n=n, seed=5), labels, strict=True)
        ]
        return train_inverter(
            some[:1_100], some[1_100:], reader=read, num_images=n, epochs=25, generator=draws()
        )

    def attack(self, model, inverter, count, **options):
        labels = torch.tensor([1, 4, 0])[:count]
        pixels = images(1, n=count, seed=6)[0, :, 0] / 255
        found = invert(
            model,
            dict(model.state_dict()),
            self.payload(model, pixels, labels),
            self.known(count, labels=labels),
            replace(PRESETS["learned"], method=inverter),
            generator=draws(),
            **options,
        )
        return pixels, labels, found

    def test_an_image_is_rebuilt_and_watched(self, model):
        seen = []
        inverter = self.inverter(model, 1)
        pixels, labels, found = self.attack(model, inverter, 1, watch=seen.append)
        mean = images(500).float().div(255).mean((0, 1, 2))
        assert (found.images - pixels).square().mean() < 0.3 * (mean - pixels).square().mean()
        assert torch.equal(found.labels, labels)
        assert torch.equal(seen[0].images, found.images)
        assert "learned from 1,100 simulated clients" in inverter.key

    def test_images_of_a_batch_keep_their_labels(self, model):
        pixels, labels, found = self.attack(model, self.inverter(model, 2), 2)
        assert found.images.shape == pixels.shape
        assert torch.equal(found.labels, labels)

    def test_a_batch_of_another_size_is_refused(self, model):
        with pytest.raises(ValueError, match="trained on 1 images"):
            self.attack(model, self.inverter(model, 1), 2)

    def test_an_inverter_survives_a_process_boundary(self, model):
        inverter = self.inverter(model, 1)
        copy = pickle.loads(pickle.dumps(inverter))
        first, second = (self.attack(model, each, 1)[2] for each in (inverter, copy))
        assert torch.equal(first.images, second.images)

    def test_without_training_the_method_refuses(self, model):
        with pytest.raises(ValueError, match="nothing was trained for this update"):
            self.attack(model, "learned", 1)
