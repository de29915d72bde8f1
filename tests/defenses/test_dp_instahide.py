"""Mixing takes an image and k - 1 others, equally; noise has its stated law; the price is told."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from fedlab.defenses import DPInstaHide, defense
from fedlab.defenses.dp_instahide import add_noise, mix
from fedlab.defenses.pipeline import (
    Batch,
    Pipeline,
    PlainGradient,
    Shard,
    shuffled,
    single,
)
from fedlab.privacy import instahide
from tests.defenses.circumstances import circumstances, seeded


def shard(n=12, classes=4):
    images = torch.randint(0, 256, (n, 1, 3, 3), generator=seeded(), dtype=torch.uint8)
    return Shard(images, torch.randint(classes, (n,), generator=seeded(1)), classes)


def batch_of(held, members):
    members = torch.as_tensor(members)
    return Batch(
        members, members.unsqueeze(1), held.images[members].float() / 255, held.labels[members]
    )


@settings(deadline=None, max_examples=60)
@given(n=st.integers(2, 15), k=st.integers(1, 6), seed=st.integers(0, 500))
def test_a_mixture_is_the_equal_mean_of_itself_and_distinct_others(n, k, seed):
    k = min(k, n)
    held = shard(n)
    members = torch.randperm(n, generator=seeded(seed))[: max(1, n // 2)]
    mixed = mix(batch_of(held, members), held, k=k, generator=seeded(seed))
    assert mixed.sources.shape == (len(members), k)
    assert torch.equal(mixed.sources[:, 0], members)
    assert all(len(row.unique()) == k for row in mixed.sources)  # distinct, and never itself
    pixels = (held.images.float() / 255)[mixed.sources].mean(1)
    labels = functional.one_hot(held.labels, 4).float()[mixed.sources].mean(1)
    torch.testing.assert_close(mixed.pixels, pixels)
    torch.testing.assert_close(mixed.labels, labels)
    torch.testing.assert_close(mixed.labels.sum(1), torch.ones(len(members)))


def test_every_other_image_is_a_partner_equally_often():
    held, k = shard(10), 4
    members = torch.zeros(6000, dtype=torch.int64) + 3
    partners = mix(batch_of(held, members), held, k=k, generator=seeded()).sources[:, 1:]
    shares = partners.flatten().bincount(minlength=10) / 6000
    assert shares[3] == 0
    others = torch.cat([shares[:3], shares[4:]])
    rate = (k - 1) / 9
    assert float((others - rate).abs().max()) < 5 * math.sqrt(rate * (1 - rate) / 6000)


@pytest.mark.parametrize(
    ("kind", "deviation", "kurtosis"), [("laplace", math.sqrt(2), 6.0), ("gaussian", 1.0, 3.0)]
)
def test_the_noise_has_its_stated_law(kind, deviation, kurtosis):
    scale = 0.02  # so small that the clipping to [0, 1] does not touch it
    noise = add_noise(torch.full((400_000,), 0.5), kind, scale=scale, generator=seeded()) - 0.5
    standard = noise / (scale * deviation)
    assert float(standard.std()) == pytest.approx(1, abs=0.01)
    assert abs(float(standard.mean())) < 0.01
    assert float((standard**4).mean()) == pytest.approx(kurtosis, rel=0.05)


def test_noisy_pixels_stay_in_their_range():
    noisy = add_noise(
        torch.rand(1000, generator=seeded()), "laplace", scale=1.0, generator=seeded()
    )
    assert float(noisy.min()) == 0
    assert float(noisy.max()) == 1


def wrapped(held, chosen, *, epochs=2, plain=None):
    model = torch.nn.Linear(9, 4)
    n = len(held)
    around = circumstances(model, held, epochs=epochs, poisson=False)
    plain = plain or Pipeline(
        sampler=shuffled(n, batch_size=5, epochs=epochs, generator=seeded()),
        transform=lambda batch: batch,
        gradient=PlainGradient(model),
        batch_size=5,
        batches=6,
        records=epochs * n,
    )
    return defense(chosen).wrap(plain, around)


def test_the_ledger_is_told_the_formal_epsilon_of_this_sampler():
    held, chosen = shard(), DPInstaHide(k=3, scale=0.5)
    (spent,) = wrapped(held, chosen).planned
    assert (spent.mechanism, spent.round, spent.steps) == ("dp-instahide", 2, 24)
    assert spent.epsilon == instahide.epsilon_own_plus_partners(
        n=12, k=3, sigma=0.5, diameter=9.0, records=24, own_records=2
    )


def test_gaussian_noise_has_no_formal_epsilon():
    (spent,) = wrapped(shard(), DPInstaHide(k=3, noise="gaussian", scale=0.5)).planned
    assert spent.epsilon is None


def test_it_mixes_anew_each_time_and_k_one_only_adds_noise():
    held = shard()
    pipeline = wrapped(held, DPInstaHide(k=3, scale=0.0))
    one, other = (pipeline.transform(batch_of(held, [0, 1, 2])) for _ in range(2))
    assert not torch.equal(one.sources, other.sources)
    alone = wrapped(held, DPInstaHide(k=1, scale=0.0)).transform(batch_of(held, [4]))
    torch.testing.assert_close(alone.pixels, held.images[[4]].float() / 255)
    assert alone.labels.tolist() == functional.one_hot(held.labels[[4]], 4).tolist()


def test_a_client_with_too_few_images():
    with pytest.raises(ValueError, match="mixes k = 5 images, but the client holds 4"):
        wrapped(shard(4), DPInstaHide(k=5))


PLAIN = Pipeline(
    sampler=single(12, batch_size=5, generator=seeded()),
    transform=lambda batch: batch,
    gradient=PlainGradient(torch.nn.Linear(9, 4)),
    batch_size=5,
    batches=1,
    records=5,
)


def test_the_noise_of_one_pixel_tells_nothing_of_another():
    noise = add_noise(torch.full((2, 100_000), 0.5), "laplace", scale=0.02, generator=seeded())
    assert abs(float(torch.corrcoef(noise)[0, 1])) < 5 / math.sqrt(100_000)


@pytest.mark.parametrize("kind", ["laplace", "gaussian"])
def test_same_generator_same_noise(kind):
    pixels = torch.full((50,), 0.5)
    one, same, other = (
        add_noise(pixels, kind, scale=0.1, generator=seeded(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(("kind", "deviation"), [("laplace", math.sqrt(2)), ("gaussian", 1.0)])
def test_the_noise_of_the_settings_is_on_the_mixture(kind, deviation):
    held = Shard(torch.full((12, 1, 60, 60), 128, dtype=torch.uint8), torch.zeros(12).long(), 4)
    pipeline = wrapped(held, DPInstaHide(k=3, noise=kind, scale=0.03))
    found = pipeline.transform(batch_of(held, list(range(12)))).pixels - 128 / 255
    assert float(found.std()) == pytest.approx(0.03 * deviation, rel=0.03)


def test_images_are_mixed_after_what_the_pipeline_did_before():
    """An image that an earlier step changed enters its mixture as changed."""
    held = shard()
    plain = replace(PLAIN, transform=lambda batch: replace(batch, pixels=batch.pixels * 0))
    pipeline = wrapped(held, DPInstaHide(k=2, scale=0.0), plain=plain)
    mixed = pipeline.transform(batch_of(held, [0, 5]))
    partners = held.images[mixed.sources[:, 1]].float() / 255
    torch.testing.assert_close(mixed.pixels, partners / 2)


def test_an_empty_batch_is_mixed_to_an_empty_one():
    held = shard()
    empty = torch.zeros(0, dtype=torch.int64)
    mixed = mix(batch_of(held, empty), held, k=3, generator=seeded())
    assert mixed.pixels.shape == (0, 1, 3, 3)
    assert mixed.labels.shape == (0, 4)


def test_the_epsilon_of_a_single_batch_counts_its_records_alone():
    """As of a leaking client: fewer mixtures than images, one of them made from the example."""
    (spent,) = wrapped(shard(), DPInstaHide(k=3, scale=0.5), epochs=1, plain=PLAIN).planned
    assert spent.steps == 5
    assert spent.epsilon == instahide.epsilon_own_plus_partners(
        n=12, k=3, sigma=0.5, diameter=9.0, records=5, own_records=1
    )
