"""DP-InstaHide mixes k images by their weights and charges the epsilon of its sampler."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from fedlab.data.shard import Shard
from fedlab.defenses.dp_instahide import DPInstaHide, mix
from fedlab.defenses.partners import distinct, skipping
from fedlab.defenses.pipeline import shuffled, unchanged
from fedlab.privacy import instahide
from fedlab.privacy.accounts import IMAGE
from tests.defenses.contexts import context, plain_pipeline, seeded


def shard(n=12, classes=4):
    images = torch.randint(0, 256, (n, 1, 3, 3), generator=seeded(), dtype=torch.uint8)
    return Shard(images, torch.randint(classes, (n,), generator=seeded(1)), classes)


def equally(held, members, *, k, seed=0):
    """Mixtures of images and random partners with equal weights."""
    members = torch.as_tensor(members)
    others = distinct(len(members), k - 1, out_of=len(held) - 1, generator=seeded(seed))
    sources = torch.cat([members.unsqueeze(1), skipping(others, members)], dim=1)
    return mix(sources, held, weights=None, before=unchanged)


@settings(deadline=None, max_examples=60)
@given(n=st.integers(2, 15), k=st.integers(1, 6), seed=st.integers(0, 500))
def test_mixture_is_the_mean_of_distinct_images(n, k, seed):
    k = min(k, n)
    held = shard(n)
    members = torch.randperm(n, generator=seeded(seed))[: max(1, n // 2)]
    mixed = equally(held, members, k=k, seed=seed)
    assert mixed.sources.shape == (len(members), k)
    assert torch.equal(mixed.members, members)
    pixels = (held.images.float() / 255)[mixed.sources].mean(1)
    labels = functional.one_hot(held.labels, 4).float()[mixed.sources].mean(1)
    torch.testing.assert_close(mixed.pixels, pixels)
    torch.testing.assert_close(mixed.labels, labels)
    torch.testing.assert_close(mixed.labels.sum(1), torch.ones(len(members)))


def test_weights_apply_to_images_and_labels():
    held, sources = shard(), torch.tensor([[3, 0, 7], [1, 2, 4]])
    weights = torch.tensor([[0.5, 0.3, 0.2], [0.0, 0.9, 0.1]])
    mixed = mix(sources, held, weights=weights, before=unchanged)
    for row in range(2):
        parts = [
            (weight, held.images[place].float() / 255, functional.one_hot(held.labels[place], 4))
            for weight, place in zip(weights[row], sources[row], strict=True)
        ]
        torch.testing.assert_close(mixed.pixels[row], sum(w * x for w, x, _ in parts))
        torch.testing.assert_close(mixed.labels[row], sum(w * y for w, _, y in parts))


def wrapped(held, chosen, *, epochs=2, plain=None):
    model = torch.nn.Linear(9, 4)
    n = len(held)
    setting = context(model, held, epochs=epochs, poisson=False)
    sampler = shuffled(n, batch_size=5, epochs=epochs, generator=seeded())
    plain = plain or plain_pipeline(model, n, sampler=sampler, batches=6, records=epochs * n)
    return chosen.wrap(plain, setting)


def test_charge_is_the_formal_epsilon_of_the_sampler():
    held, chosen = shard(), DPInstaHide(k=3, scale=0.5)
    (spent,) = wrapped(held, chosen).planned
    assert (spent.mechanism, spent.round, spent.steps) == ("dp-instahide", 2, 24)
    assert spent.epsilon == instahide.epsilon(k=3, sigma=0.5, diameter=9.0, records=24)
    # Without partners an image is only in its own mixtures, one in each epoch.
    (alone,) = wrapped(held, DPInstaHide(k=1, scale=0.5)).planned
    assert alone.epsilon == instahide.epsilon(k=1, sigma=0.5, diameter=9.0, records=2)


def test_gaussian_noise_has_no_formal_epsilon():
    (spent,) = wrapped(shard(), DPInstaHide(k=3, noise="gaussian", scale=0.5)).planned
    assert spent.epsilon is None


def test_mixtures_are_new_and_k_one_does_not_mix():
    held = shard()
    pipeline = wrapped(held, DPInstaHide(k=3, scale=0.0))
    one, other = (pipeline.held(torch.as_tensor([0, 1, 2])) for _ in range(2))
    assert not torch.equal(one.sources, other.sources)
    alone = wrapped(held, DPInstaHide(k=1, scale=0.0)).held(torch.as_tensor([4]))
    torch.testing.assert_close(alone.pixels, held.images[[4]].float() / 255)
    assert alone.labels.tolist() == functional.one_hot(held.labels[[4]], 4).tolist()


def test_client_with_too_few_images_is_refused():
    with pytest.raises(ValueError, match="mixes k = 5 images, but the client has 4"):
        wrapped(shard(4), DPInstaHide(k=5))


PLAIN = plain_pipeline(torch.nn.Linear(9, 4), 12)


@pytest.mark.parametrize(("kind", "deviation"), [("laplace", math.sqrt(2)), ("gaussian", 1.0)])
def test_mixture_has_the_set_noise(kind, deviation):
    held = Shard(torch.full((12, 1, 60, 60), 128, dtype=torch.uint8), torch.zeros(12).long(), 4)
    pipeline = wrapped(held, DPInstaHide(k=3, noise=kind, scale=0.03))
    found = pipeline.held(torch.as_tensor(list(range(12)))).pixels - 128 / 255
    assert float(found.std()) == pytest.approx(0.03 * deviation, rel=0.03)


def test_earlier_transforms_apply_before_mixing():
    held = shard()
    plain = replace(PLAIN, transform=lambda batch: replace(batch, pixels=1 - batch.pixels))
    pipeline = wrapped(held, DPInstaHide(k=2, scale=0.0), plain=plain)
    mixed = pipeline.held(torch.as_tensor([0, 5]))
    negatives = 1 - held.images[mixed.sources].float() / 255
    torch.testing.assert_close(mixed.pixels, negatives.mean(1))


def test_empty_batch_gives_an_empty_mixture():
    held = shard()
    empty = torch.zeros(0, dtype=torch.int64)
    mixed = wrapped(held, DPInstaHide(k=3)).held(torch.as_tensor(empty))
    assert mixed.pixels.shape == (0, 1, 3, 3)
    assert mixed.labels.shape == (0, 4)


@pytest.mark.parametrize(("cap", "factor"), [(0.65, 0.65), (None, 1.0)])
def test_only_capped_weights_reduce_epsilon(cap, factor):
    """Epsilon is that of k = 1/cap equal weights."""
    held = shard()
    chosen = DPInstaHide(k=3, weights="dirichlet", cap=cap, scale=0.5)
    (spent,) = wrapped(held, chosen).planned
    assert spent.epsilon == pytest.approx(24 * factor * 9.0 / 0.5)


def test_mixtures_have_their_own_capped_weights():
    """Every image has its own class, so labels show the weights."""
    held = Shard(shard().images, torch.arange(12), 12)
    chosen = DPInstaHide(k=3, weights="dirichlet", alpha=0.5, cap=0.6, scale=0.0)
    mixed = wrapped(held, chosen).held(torch.as_tensor(list(range(12))))
    weights = mixed.labels.gather(1, mixed.sources)
    torch.testing.assert_close(weights.sum(1), torch.ones(12))
    assert float(weights.max()) <= 0.6 + 1e-6
    assert len(weights.flatten().unique()) > 20
    images = held.images.float() / 255
    mixtures = torch.einsum("bk,bk...->b...", weights, images[mixed.sources])
    torch.testing.assert_close(mixed.pixels, mixtures)


FROZEN = DPInstaHide(k=3, frozen=7, scale=0.5)


def inputs(pipeline):
    """All batches of a round as the network is trained on them."""
    return [pipeline.transform(pipeline.held(places)) for places in pipeline.sampler()]


def in_round(number, held, chosen=FROZEN, **given):
    """The pipeline of one round, with streams of that round and lasting streams."""
    setting = context(
        torch.nn.Linear(9, 4),
        held,
        round=number,
        participation=number - 1,
        stream=lambda purpose: seeded(number),
        lasting=lambda purpose: seeded(sum(map(ord, purpose))),
        **given,
    )
    return chosen.wrap(replace(PLAIN, records=12 * setting.epochs), setting)


def test_frozen_set_is_the_same_and_costs_once():
    held = shard()
    first, second = (in_round(number, held, epochs=2) for number in (1, 2))
    seen = [
        {int(m): x for batch in inputs(p) for m, x in zip(batch.members, batch.pixels, strict=True)}
        for p in (first, second)
    ]
    assert set(seen[0]) == set(seen[1]) == set(range(7))
    assert all(torch.equal(seen[0][place], seen[1][place]) for place in range(7))
    order = [torch.cat(list(p.sampler())).tolist() for p in (first, second)]
    assert order[0] != order[1]
    assert all(sorted(each) == sorted([*range(7)] * 2) for each in order)
    spent = [p.planned[0] for p in (first, second)]
    assert spent[0].release == spent[1].release is not None
    epsilon = instahide.epsilon(k=3, sigma=0.5, diameter=9.0, records=7)
    assert [entry.epsilon for entry in spent] == [epsilon, epsilon]
    assert spent[0].steps == 7
    total = IMAGE.epsilon((*first.planned, *second.planned), accountant="rdp", delta=1e-5)
    assert total == epsilon
    assert (first.batches, first.records, first.batch_size) == (4, 14, 5)


def test_frozen_mixture_is_the_noisy_mean_of_images():
    held = shard()
    (batch, *_) = inputs(in_round(1, held, FROZEN.model_copy(update={"scale": 0.0})))
    assert all(len(row.unique()) == 3 for row in batch.sources)
    torch.testing.assert_close(batch.pixels, (held.images.float() / 255)[batch.sources].mean(1))
    noisy = in_round(1, held).held(torch.arange(7))
    quiet = in_round(1, held, FROZEN.model_copy(update={"scale": 0.0})).held(torch.arange(7))
    assert not torch.allclose(noisy.pixels, quiet.pixels)


@pytest.mark.parametrize("what", ["settings", "images", "labels"])
def test_another_frozen_set_is_another_release(what):
    """With the same noise, the difference of both sets would be free of noise."""
    held, changed, chosen = shard(), shard(), FROZEN
    if what == "settings":
        chosen = FROZEN.model_copy(update={"scale": 0.6})
    elif what == "images":
        changed.images[0, 0, 0, 0] ^= 1
    else:
        changed.labels[0] = (changed.labels[0] + 1) % 4
    asked = []

    def lasting(purpose):
        asked.append(purpose)
        return seeded(sum(map(ord, purpose)))

    setting = context(torch.nn.Linear(9, 4), held, lasting=lasting)
    other = replace(setting, shard=changed)
    one = FROZEN.wrap(PLAIN, setting).planned[0]
    half = len(asked)
    two = chosen.wrap(PLAIN, other).planned[0]
    assert one.release != two.release
    assert not set(asked[:half]) & set(asked[half:])


def test_leaking_client_sends_one_frozen_batch():
    pipeline = in_round(1, shard(), leaking=True)
    (places,) = pipeline.sampler()
    assert len(places.unique()) == len(places) == 5
    assert (pipeline.batches, pipeline.records) == (1, 5)
    assert pipeline.planned[0].steps == 7  # the charge is for the whole set


def test_repeated_round_has_new_noise_and_partners():
    held, asked = shard(), []

    def stream(purpose):
        asked.append(purpose)
        return seeded()

    setting = context(torch.nn.Linear(9, 4), held, stream=stream)
    for again in (setting, replace(setting, participation=2)):
        DPInstaHide(k=3).wrap(PLAIN, again)
    assert len(asked) == len(set(asked)) == 6  # two rounds with partners, noise and weights each


def test_single_batch_is_charged_for_its_records():
    """A leaking client has fewer mixtures than images."""
    (spent,) = wrapped(shard(), DPInstaHide(k=3, scale=0.5), epochs=1, plain=PLAIN).planned
    assert spent.steps == 5
    assert spent.epsilon == instahide.epsilon(k=3, sigma=0.5, diameter=9.0, records=5)
