"""Samplers and the plain gradient, which defenses replace."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from fedlab.core.errors import BadInput
from fedlab.defenses.dp_instahide import DPInstaHide
from fedlab.defenses.dp_sgd import DPSGD
from fedlab.defenses.pipeline import PlainGradient, poisson, shuffled, single
from tests.defenses.contexts import seeded


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 30), size=st.integers(1, 12), epochs=st.integers(1, 3))
def test_epoch_contains_every_image_once(n, size, epochs):
    batches = list(shuffled(n, batch_size=size, epochs=epochs, generator=seeded())())
    per_epoch = -(-n // size)
    assert len(batches) == epochs * per_epoch
    for epoch in range(epochs):
        own = batches[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert sorted(torch.cat(own).tolist()) == list(range(n))
        assert [len(b) for b in own[:-1]] == [size] * (per_epoch - 1)
        assert len(own[-1]) == n - size * (per_epoch - 1)


def test_every_epoch_has_a_new_order():
    one, other = shuffled(30, batch_size=30, epochs=2, generator=seeded())()
    assert not torch.equal(one, other)
    assert not torch.equal(one, torch.arange(30))


def test_single_batch_has_distinct_random_images():
    (one,) = single(30, batch_size=7, generator=seeded())()
    (other,) = single(30, batch_size=7, generator=seeded(1))()
    assert len(one.unique()) == 7
    assert 0 <= int(one.min()) <= int(one.max()) < 30
    assert set(one.tolist()) != set(other.tolist())


@pytest.mark.parametrize(
    "sampler",
    [
        lambda generator: shuffled(20, batch_size=6, epochs=2, generator=generator),
        lambda generator: single(20, batch_size=6, generator=generator),
        lambda generator: poisson(20, rate=0.3, steps=5, generator=generator),
    ],
)
def test_samplers_depend_on_their_generator_only(sampler):
    one, same, other = ([b.tolist() for b in sampler(seeded(seed))()] for seed in (1, 1, 2))
    assert one == same != other


def test_plain_gradient_overwrites_the_previous_one():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 3))
    images, labels = torch.randn(4, 1, 3, 3, generator=seeded()), torch.tensor([0, 1, 2, 0])
    loss = functional.cross_entropy(model(images), labels)
    expected = torch.autograd.grad(loss, list(model.parameters()))
    gradient = PlainGradient(model)
    gradient(images[:1], labels[:1])
    gradient(images, labels)
    for parameter, value in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, value)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (DPSGD, {"noise_multiplier": -0.1}),
        (DPSGD, {"clipping_norm": 0.0}),
        (DPInstaHide, {"k": 0}),
        (DPInstaHide, {"scale": -0.1}),
        (DPInstaHide, {"noise": "uniform"}),
    ],
)
def test_settings_out_of_range_are_refused(kind, wrong):
    with pytest.raises(BadInput, match=next(iter(wrong))):
        kind(**wrong)
