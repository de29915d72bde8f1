"""Poisoned data and updates: what is tampered with, what is not, and how much of it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.payload import Payload
from attacks.poisoning.badnets import badnets, stamp
from attacks.poisoning.label_flip import label_flip
from attacks.updates.scaling import scale


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def shard(n=40, classes=5):
    images = torch.randint(0, 200, (n, 1, 8, 8), generator=seeded(), dtype=torch.uint8)
    return images, torch.randint(classes, (n,), generator=seeded(1))


@settings(deadline=None, max_examples=40)
@given(share=st.floats(0.01, 1), seed=st.integers(0, 99))
def test_a_share_of_the_labels_is_turned_round(share, seed):
    _, labels = shard()
    before = labels.clone()
    flipped = label_flip(labels, num_classes=5, share=share, generator=seeded(seed))
    assert torch.equal(labels, before)
    changed = flipped != labels
    assert torch.equal(flipped[changed], 4 - labels[changed])
    # The middle class of an odd number is its own opposite.
    assert int(changed.sum()) == round(share * int((labels != 2).sum()))


def test_one_class_is_taken_for_another():
    _, labels = shard()
    flipped = label_flip(labels, num_classes=5, share=1.0, source=3, target=0, generator=seeded())
    assert torch.equal(
        flipped[labels == 3], torch.zeros(int((labels == 3).sum()), dtype=torch.int64)
    )
    assert torch.equal(flipped[labels != 3], labels[labels != 3])


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_badnets_stamps_and_relabels_a_share_and_leaves_the_rest(share):
    images, labels = shard()
    before = images.clone()
    poisoned, relabelled = badnets(
        images, labels, target=4, share=share, size=3, generator=seeded()
    )
    assert torch.equal(images, before)
    stamped = (poisoned != images).flatten(1).any(1)
    assert int(stamped.sum()) == round(share * 40)
    assert (poisoned[stamped][..., -3:, -3:] == 255).all()
    assert torch.equal(poisoned[stamped][..., :-3, :], images[stamped][..., :-3, :])
    assert (relabelled[stamped] == 4).all()
    assert torch.equal(relabelled[~stamped], labels[~stamped])


@pytest.mark.parametrize(
    ("corner", "rows", "columns"),
    [
        ("top-left", slice(0, 2), slice(0, 2)),
        ("top-right", slice(0, 2), slice(6, 8)),
        ("bottom-left", slice(6, 8), slice(0, 2)),
        ("bottom-right", slice(6, 8), slice(6, 8)),
    ],
)
def test_corners(corner, rows, columns):
    stamped = stamp(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), size=2, corner=corner)
    assert int((stamped == 255).sum()) == 3 * 4
    assert (stamped[..., rows, columns] == 255).all()


@pytest.mark.parametrize("size", [0, 9])
def test_a_trigger_that_does_not_fit(size):
    with pytest.raises(ValueError, match="does not fit"):
        stamp(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), size=size)


@pytest.mark.parametrize("factor", [10.0, -1.0, 0.5])
def test_scaling_of_each_payload_kind(factor):
    start = {"w": torch.tensor([1.0, -2.0, 0.5])}
    sent = {"w": torch.tensor([1.5, -2.5, 0.0])}
    weights = scale(Payload("weights", sent, num_examples=3, steps=2), start, factor)
    before, after = start["w"].numpy(), sent["w"].numpy()
    np.testing.assert_allclose(weights.tensors["w"], before + factor * (after - before), rtol=1e-6)
    gradient = scale(Payload("gradient", sent, num_examples=3, steps=1), start, factor)
    np.testing.assert_allclose(gradient.tensors["w"], factor * after, rtol=1e-6)
    assert (weights.num_examples, weights.steps) == (3, 2)


@pytest.mark.parametrize("corner", ["top-left", "top-right", "bottom-left", "bottom-right"])
@pytest.mark.parametrize("size", [1, 4])
def test_badnets_uses_the_trigger_that_it_is_told(corner, size):
    images, labels = shard()
    poisoned, _ = badnets(
        images, labels, target=0, share=1.0, size=size, corner=corner, generator=seeded()
    )
    assert torch.equal(poisoned, stamp(images, size=size, corner=corner))


def test_the_generator_alone_chooses_who_is_poisoned():
    images, labels = shard()

    def chosen(seed):
        options = {"target": 0, "share": 0.5, "size": 2, "generator": seeded(seed)}
        poisoned, _ = badnets(images, labels, **options)
        flipped = label_flip(labels, num_classes=5, share=0.5, generator=seeded(seed))
        return (poisoned != images).flatten(1).any(1).tolist(), (flipped != labels).tolist()

    assert chosen(1) == chosen(1)
    assert all(one != other for one, other in zip(chosen(1), chosen(2), strict=True))


def test_scaling_leaves_what_it_was_given():
    start, sent = {"w": torch.tensor([1.0, -2.0])}, {"w": torch.tensor([1.5, -2.5])}
    for kind in ("weights", "gradient"):
        scale(Payload(kind, sent, num_examples=1, steps=1), start, 7.0)
    assert start["w"].tolist() == [1.0, -2.0]
    assert sent["w"].tolist() == [1.5, -2.5]
