"""DP-SGD against micro-batches, its noise against its formula, and its sampler against its rate."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from fedlab.defenses import DPSGD, defense
from fedlab.defenses.dp_sgd import PrivateGradient
from fedlab.defenses.pipeline import Pipeline, PlainGradient, Shard, poisson, single
from fedlab.models import build
from tests.defenses.circumstances import circumstances, seeded

NETWORKS = {
    "mlp": ("mlp", None),
    "convnet": ("convnet", None),
    "convnet with groups": ("convnet", "group"),
    "resnet8": ("resnet8", None),
    "lenet": ("lenet", None),
}


def batch(n=6):
    return torch.randn(n, 1, 8, 8, generator=seeded()), torch.randint(10, (n,), generator=seeded(1))


def private(model, *, norm=0.5, noise=0.0, expected=6, seed=0):
    return PrivateGradient(
        model,
        clipping_norm=norm,
        noise_multiplier=noise,
        expected_batch_size=expected,
        generator=seeded(seed),
    )


def flat(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("expected", [6, 10])
@pytest.mark.parametrize("soft", [False, True])
def test_without_noise_it_is_the_sum_of_clipped_micro_batches(network, expected, soft):
    name, norm = NETWORKS[network]
    model = build(name, shape=(1, 8, 8), classes=10, width=8, norm=norm)
    images, labels = batch()
    if soft:
        labels = torch.softmax(torch.randn(6, 10, generator=seeded(2)), 1)
    total = 0
    for index in range(6):
        model.zero_grad()
        one = slice(index, index + 1)
        functional.cross_entropy(model(images[one]), labels[one]).backward()
        gradient = flat(model)
        total = total + gradient * min(1.0, 0.5 / float(gradient.norm() + 1e-6))
    gradient = private(model, expected=expected)
    gradient(images, labels)
    torch.testing.assert_close(flat(model), total / expected, rtol=1e-4, atol=1e-6)
    gradient.close()


@pytest.mark.parametrize("channels", [1, 3])
def test_the_order_of_an_image_in_memory_does_not_matter(channels):
    """PyTorch takes some grey images for channels-last ones, and then all that follows."""
    model = build("convnet", shape=(channels, 8, 8), classes=10, width=8)
    images = torch.randn(6, channels, 8, 8, generator=seeded())
    _, labels = batch()
    found = []
    for layout in (
        images,
        images.to(memory_format=torch.channels_last),
        torch.empty(6, 8, 8, channels).permute(0, 3, 1, 2).copy_(images),
    ):
        gradient = private(model)
        gradient(layout, labels)
        found.append(flat(model))
        gradient.close()
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])


@pytest.mark.parametrize("images", [0, 6], ids=["empty batch", "full batch"])
def test_the_noise_has_the_stated_deviation(images):
    model = build("convnet", shape=(1, 8, 8), classes=10, width=8)
    gradient = private(model, norm=0.7, noise=1.3, expected=6)
    quiet = private(build("convnet", shape=(1, 8, 8), classes=10, width=8), norm=0.7)
    x, y = (part[:images] for part in batch())
    draws = []
    for _ in range(60):
        gradient(x, y)
        draws.append(flat(model))
    gradient.close()
    drawn = torch.stack(draws)
    if images:
        quiet(x, y)
        drawn = drawn - flat(quiet._model._module)
    deviation = 1.3 * 0.7 / 6
    count = drawn.numel()
    assert float(drawn.std()) == pytest.approx(deviation, rel=5 / math.sqrt(count))
    assert abs(float(drawn.mean())) < 5 * deviation / math.sqrt(count)
    # Independent from one draw to the next and from one parameter to the next.
    correlation = torch.corrcoef(drawn[:2])[0, 1]
    assert abs(float(correlation)) < 5 / math.sqrt(drawn.shape[1])


def test_same_generator_same_noise():
    results = []
    for seed in (1, 1, 2):
        model = build("convnet", shape=(1, 8, 8), classes=10, width=4)
        gradient = private(model, noise=1.0, seed=seed)
        gradient(*batch())
        results.append(flat(model))
        gradient.close()
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_close_leaves_a_plain_network():
    model = build("resnet8", shape=(1, 8, 8), classes=10, width=4)
    gradient = private(model, noise=1.0)
    gradient(*batch())
    gradient.close()
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())
    leftovers = ("grad_sample", "summed_grad")
    assert not any(hasattr(p, name) for p in model.parameters() for name in leftovers)
    images, labels = batch()
    functional.cross_entropy(model(images), labels).backward()
    expected = build("resnet8", shape=(1, 8, 8), classes=10, width=4)
    functional.cross_entropy(expected(images), labels).backward()
    assert torch.equal(flat(model), flat(expected))


def test_each_image_joins_a_poisson_batch_by_itself():
    n, rate, steps = 50, 0.3, 4000
    batches = list(poisson(n, rate=rate, steps=steps, generator=seeded())())
    sizes = torch.tensor([float(len(b)) for b in batches])
    assert len(batches) == steps
    spread = math.sqrt(n * rate * (1 - rate))
    assert float(sizes.mean()) == pytest.approx(n * rate, abs=4 * spread / math.sqrt(steps))
    assert float(sizes.var()) == pytest.approx(spread**2, rel=0.1)
    together = torch.cat(batches).bincount(minlength=n) / steps
    assert float((together - rate).abs().max()) < 5 * math.sqrt(rate * (1 - rate) / steps)
    assert all(len(b.unique()) == len(b) for b in batches)


def test_an_empty_poisson_batch_can_fall():
    assert any(len(b) == 0 for b in poisson(3, rate=0.1, steps=50, generator=seeded())())


def around(model, *, is_poisson=True, n=20):
    shard = Shard(torch.zeros(n, 1, 8, 8, dtype=torch.uint8), torch.zeros(n).long(), 10)
    return circumstances(model, shard, round=3, poisson=is_poisson)


@pytest.mark.parametrize(("is_poisson", "rate"), [(True, 0.25), (False, 1.0)])
def test_the_accountant_is_told_the_samplers_own_rate(is_poisson, rate):
    model = build("convnet", shape=(1, 8, 8), classes=10, width=4)
    circumstances = around(model, is_poisson=is_poisson)
    plain = Pipeline(
        sampler=single(20, batch_size=5, generator=seeded()),
        transform=lambda batch: batch,
        gradient=PlainGradient(model),
        batch_size=5,
        batches=4,
        records=20,
    )
    settings = DPSGD(noise_multiplier=1.5, clipping_norm=0.3)
    pipeline = defense(settings).wrap(plain, circumstances)
    (spent,) = pipeline.planned
    assert (spent.mechanism, spent.round, spent.steps) == ("dp-sgd", 3, 4)
    assert (spent.noise_multiplier, spent.clipping_norm) == (1.5, 0.3)
    assert spent.sample_rate == rate
    assert len(list(pipeline.sampler())) == (4 if is_poisson else 1)
    for close in pipeline.close:
        close()


def test_a_dropout_network_still_trains():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    gradient = private(model, noise=0.0)
    gradient(*batch())
    assert torch.isfinite(flat(model)).all()
    gradient.close()


@pytest.mark.parametrize("norm", [1e-3, 1e3])
def test_no_example_counts_for_more_than_the_norm(norm):
    """One image, however extreme, moves the sum by no more than the norm; small ones are kept."""
    model = build("convnet", shape=(1, 8, 8), classes=10, width=4)
    images, labels = batch()
    images[0] *= 1e3
    gradient = private(model, norm=norm, expected=1)
    gradient(images, labels)
    everything = flat(model)
    gradient(images[1:], labels[1:])
    difference = float((everything - flat(model)).norm())
    gradient.close()
    assert difference <= norm * (1 + 1e-4)
    model.zero_grad()
    functional.cross_entropy(model(images[:1]), labels[:1]).backward()
    assert difference == pytest.approx(min(norm, float(flat(model).norm())), rel=1e-2)


def test_a_second_call_forgets_the_first():
    model = build("convnet", shape=(1, 8, 8), classes=10, width=4)
    images, labels = batch()
    gradient = private(model)
    gradient(images, labels)
    expected = flat(model)
    gradient(images[:0], labels[:0])
    assert not flat(model).any()
    gradient(images, labels)
    assert torch.equal(flat(model), expected)
    gradient.close()


@pytest.mark.parametrize("noiseless", [False, True])
def test_only_a_rehearsal_is_without_noise(noiseless):
    model = build("convnet", shape=(1, 8, 8), classes=10, width=4)
    plain = Pipeline(
        sampler=single(20, batch_size=5, generator=seeded()),
        transform=lambda batch: batch,
        gradient=PlainGradient(model),
        batch_size=5,
        batches=1,
        records=5,
    )
    circumstances = replace(around(model), noiseless=noiseless)
    pipeline = defense(DPSGD(noise_multiplier=2.0, clipping_norm=0.3)).wrap(plain, circumstances)
    images, labels = batch()
    pipeline.gradient(images[:0], labels[:0])
    drawn = flat(model)
    for close in pipeline.close:
        close()
    # Twice the norm over the expected batch of five.
    assert float(drawn.std()) == pytest.approx(0.0 if noiseless else 2.0 * 0.3 / 5, rel=0.15)
    assert pipeline.planned[0].noise_multiplier == 2.0
