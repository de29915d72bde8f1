"""Every kind of clipping in every mode against one example at a time."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from fedlab.models import build
from tests.defenses.contexts import seeded
from tests.defenses.private import IDS, WAYS, batch, flat, one_by_one, opened, private

NETWORKS = {
    "mlp": ("mlp", None),
    "convnet": ("convnet", None),
    "convnet with groups": ("convnet", "group"),
    "resnet8": ("resnet8", None),
    "lenet": ("lenet", None),
}

every_way = pytest.mark.parametrize(("clipping", "mode"), WAYS, ids=IDS)


def network(name="convnet", width=4):
    name, norm = NETWORKS[name]
    return build(name, shape=(1, 8, 8), classes=10, width=width, norm=norm)


@pytest.mark.parametrize("name", NETWORKS)
@every_way
def test_private_gradient_equals_micro_batches(name, clipping, mode):
    model, (images, labels) = network(name, 8), batch()
    wanted = one_by_one(model, images, labels, norm=0.5, clipping=clipping).sum(0) / 10
    with opened(model, expected=10, clipping=clipping, mode=mode) as gradient:
        gradient(images, labels)
        torch.testing.assert_close(flat(model), wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mode", ["hooks", "ew", "functorch", "ghost"])
def test_soft_labels_equal_micro_batches(mode):
    model, (images, _) = network(), batch()
    labels = torch.softmax(torch.randn(6, 10, generator=seeded(2)), 1)
    wanted = one_by_one(model, images, labels, norm=0.5).sum(0) / 6
    with opened(model, mode=mode) as gradient:
        gradient(images, labels)
        torch.testing.assert_close(flat(model), wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["convnet", "resnet8"])
def test_modes_agree(name):
    found = {}
    for mode in ("hooks", "ew", "functorch", "ghost"):
        model = network(name)
        with opened(model, noise=1.0, mode=mode) as gradient:
            gradient(*batch())
            found[mode] = flat(model)
    for mode, other in found.items():
        torch.testing.assert_close(other, found["hooks"], rtol=0, atol=1e-5, msg=mode)


@pytest.mark.parametrize("channels", [1, 3])
@every_way
def test_memory_format_does_not_change_the_gradient(channels, clipping, mode):
    """PyTorch treats some grey images, and all later layers, as channels-last."""
    model = build("convnet", shape=(channels, 8, 8), classes=10, width=8)
    images, labels = batch(shape=(channels, 8, 8))
    wanted = one_by_one(model, images, labels, norm=0.5, clipping=clipping).sum(0) / 6
    for layout in (
        images,
        images.to(memory_format=torch.channels_last),
        torch.empty(6, 8, 8, channels).permute(0, 3, 1, 2).copy_(images),
    ):
        with opened(model, clipping=clipping, mode=mode) as gradient:
            gradient(layout, labels)
            torch.testing.assert_close(flat(model), wanted, rtol=1e-4, atol=1e-6)


@every_way
@settings(max_examples=12, deadline=None)
@given(
    norm=st.floats(1e-3, 1e2),
    size=st.floats(1e-2, 1e4),
    seed=st.integers(0, 1000),
)
def test_example_contributes_at_most_the_norm(clipping, mode, norm, size, seed):
    """One image, however extreme, changes the sum by at most the norm."""
    model, (images, labels) = network(), batch(4)
    images[0] = size * torch.randn(1, 8, 8, generator=seeded(seed))
    own = one_by_one(model, images[:1], labels[:1], norm=norm, clipping=clipping)[0]
    sums = []
    for start in (0, 1):
        # A new gradient for each, since adaptive clipping changes the norm.
        with opened(model, norm=norm, expected=1, clipping=clipping, mode=mode) as gradient:
            gradient(images[start:], labels[start:])
            sums.append(flat(model))
    moved = sums[0] - sums[1]
    # The difference of two sums is exact up to a few last bits.
    tiny = 1e-5 * norm + 1e-5 * float(sums[0].norm())
    assert float(moved.norm()) <= norm + tiny
    assert float((moved - own).norm()) <= 1e-3 * float(own.norm()) + tiny


@every_way
def test_batch_in_parts_equals_the_whole_batch(clipping, mode):
    """Each gradient is clipped by itself, and noise is added once at the end."""
    model, (images, labels) = network(), batch(7)
    found = []
    for at_once in (None, 7, 3, 1):
        with opened(model, noise=1.0, clipping=clipping, mode=mode, at_once=at_once) as gradient:
            for _ in range(2):  # adaptive norms must change equally
                gradient(images, labels)
            found.append(flat(model))
            found.append(torch.tensor([gradient.clipping_norm]))
    for gradients, bound in zip(found[2::2], found[3::2], strict=True):
        torch.testing.assert_close(gradients, found[0], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(bound, found[1])


@pytest.mark.parametrize("mode", ["hooks", "ew", "functorch"])
def test_parts_limit_the_gradients_in_memory(mode, monkeypatch):
    model, (images, labels) = network(), batch(7)
    with opened(model, mode=mode, at_once=3) as gradient:
        kept, clip = [], gradient._optimizer.clip_and_accumulate

        def watched():
            kept.append(len(gradient._optimizer.grad_samples[0]))
            clip()

        monkeypatch.setattr(gradient._optimizer, "clip_and_accumulate", watched)
        gradient(images, labels)
    assert kept == [3, 3, 1]


@every_way
def test_second_call_is_independent_of_the_first(clipping, mode):
    model, (images, labels) = network(), batch()
    with opened(model, clipping=clipping, mode=mode, at_once=4) as gradient:
        gradient(images, labels)
        first = flat(model)
        gradient(images[:0], labels[:0])
        assert not flat(model).any()
        gradient._optimizer.max_grad_norm = 0.5  # adaptive clipping changes it
        gradient(images, labels)
        assert torch.equal(flat(model), first)


@every_way
@pytest.mark.parametrize("training", [True, False])
def test_close_restores_the_network(clipping, mode, training):
    model = network("resnet8").train(training)
    gradient = private(model, noise=1.0, clipping=clipping, mode=mode)
    gradient(*batch())
    gradient.close()
    assert not any(
        m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in model.modules()
    )
    leftovers = ("grad_sample", "summed_grad", "_norm_sample", "_forward_counter")
    assert not any(hasattr(p, name) for p in model.parameters() for name in leftovers)
    assert all(layer.training is training for layer in model.modules())
    images, labels = batch()
    functional.cross_entropy(model(images), labels).backward()
    expected = network("resnet8")
    functional.cross_entropy(expected(images), labels).backward()
    assert torch.equal(flat(model), flat(expected))


@every_way
def test_evaluation_mode_equals_micro_batches(clipping, mode):
    """Opacus' hooks skip layers in evaluation mode, in which Dropout must stay."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Dropout(0.9), nn.Linear(144, 10))
    model.eval()
    images, labels = batch()
    wanted = one_by_one(model, images, labels, norm=0.5, clipping=clipping).sum(0) / 6
    with opened(model, clipping=clipping, mode=mode) as gradient:
        gradient(images, labels)
        torch.testing.assert_close(flat(model), wanted, rtol=1e-4, atol=1e-6)


def test_dropout_network_trains():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    with opened(model) as gradient:
        gradient(*batch())
        assert torch.isfinite(flat(model)).all()


@pytest.mark.parametrize("at_once", [None, 2])
@pytest.mark.parametrize("bad", [[2], [0, 1], [0, 1, 2, 3, 4, 5]])
@every_way
def test_overflow_counts_as_a_zero_gradient(clipping, mode, bad, at_once):
    """A pixel of 1e38 overflows in the first layer, and no noise would cover NaN."""
    model, (images, labels) = network(), batch()
    good = [place for place in range(6) if place not in bad]
    wanted = torch.zeros(sum(p.numel() for p in model.parameters()))
    if good:
        rows = one_by_one(model, images[good], labels[good], norm=0.5, clipping=clipping)
        wanted = rows.sum(0) / 6
    images[bad] = 1e38
    with opened(model, clipping=clipping, mode=mode, at_once=at_once) as gradient:
        gradient(images, labels)
        torch.testing.assert_close(flat(model), wanted, rtol=1e-4, atol=1e-6)
        assert math.isfinite(gradient.clipping_norm)
