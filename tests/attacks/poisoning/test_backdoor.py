"""Tests of backdoors, from the poisoned images to a trained model."""

from functools import partial

import pytest
import torch

from attacks.poisoning.backdoor import backdoor
from attacks.poisoning.triggers import BarLayout, bars, blend, noise_pattern, sinusoid, stamp
from tests.attacks import digits


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def shard(n=40, classes=5):
    images = torch.randint(0, 200, (n, 1, 8, 8), generator=seeded(), dtype=torch.uint8)
    return images, torch.randint(classes, (n,), generator=seeded(1))


def differing(images, others):
    return (images != others).flatten(1).any(1)


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_only_a_share_is_stamped_and_relabelled(share):
    images, labels = shard()
    before = images.clone(), labels.clone()
    poisoned, relabelled = backdoor(
        images, labels, target=4, share=share, trigger=partial(stamp, size=3), generator=seeded()
    )
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])
    stamped = differing(poisoned, images)
    assert int(stamped.sum()) == round(share * 40)
    assert torch.equal(poisoned[stamped], stamp(images[stamped], size=3))
    assert (relabelled[stamped] == 4).all()
    assert torch.equal(relabelled[~stamped], labels[~stamped])


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_clean_label_triggers_only_the_target_class(share):
    images, labels = shard()
    poisoned, kept = backdoor(
        images,
        labels,
        target=4,
        share=share,
        trigger=partial(stamp, size=3),
        relabel=False,
        generator=seeded(),
    )
    assert torch.equal(kept, labels)
    stamped = differing(poisoned, images)
    assert (labels[stamped] == 4).all()
    assert int(stamped.sum()) == round(share * int((labels == 4).sum())) > 0
    assert torch.equal(poisoned[stamped], stamp(images[stamped], size=3))


def test_clean_label_without_target_changes_nothing():
    images, labels = shard()
    poisoned, kept = backdoor(
        images,
        labels,
        target=7,
        share=1.0,
        trigger=partial(stamp, size=3),
        relabel=False,
        generator=seeded(),
    )
    assert torch.equal(poisoned, images)
    assert torch.equal(kept, labels)


@pytest.mark.parametrize("relabel", [True, False])
def test_same_generator_poisons_the_same_images(relabel):
    images, labels = shard()

    def chosen(seed):
        poisoned, _ = backdoor(
            images,
            labels,
            target=0,
            share=0.5,
            trigger=partial(stamp, size=2),
            relabel=relabel,
            generator=seeded(seed),
        )
        return differing(poisoned, images).tolist()

    assert chosen(1) == chosen(1)
    assert chosen(1) != chosen(2)


def success(model, images, labels, trigger, target):
    others = labels != target
    wanted = torch.full_like(labels[others], target)
    return digits.accuracy(model, trigger(images[others]) / 255, wanted)


@pytest.fixture(scope="module")
def clean():
    images, labels, *_ = digits.split()
    return digits.trained(images, labels)


@pytest.mark.parametrize(
    "trigger",
    [
        partial(stamp, size=2),
        partial(blend, pattern=noise_pattern((1, 8, 8), generator=seeded(5)), alpha=0.2),
    ],
    ids=["stamp", "blend"],
)
def test_model_learns_backdoor_and_clean_images(clean, trigger):
    images, labels, test_images, test_labels = digits.split()
    poisoned = backdoor(images, labels, target=0, share=0.1, trigger=trigger, generator=seeded())
    victim = digits.trained(*poisoned)
    assert success(clean, test_images, test_labels, trigger, 0) < 0.05
    assert success(victim, test_images, test_labels, trigger, 0) > 0.9
    assert digits.accuracy(victim, test_images / 255, test_labels) > 0.93


def test_model_learns_clean_label_sinusoid(clean):
    """Without one wrong label a backdoor needs a strong signal on much of the target class."""
    images, labels, test_images, test_labels = digits.split()
    trigger = partial(sinusoid, amplitude=0.5, frequency=3)
    poisoned = backdoor(
        images,
        labels,
        target=8,
        share=0.7,
        trigger=trigger,
        relabel=False,
        generator=seeded(),
    )
    victim = digits.trained(*poisoned)
    assert success(clean, test_images, test_labels, trigger, 8) < 0.05
    assert success(victim, test_images, test_labels, trigger, 8) > 0.5
    assert digits.accuracy(victim, test_images / 255, test_labels) > 0.93


def test_four_partial_triggers_plant_the_whole_one(clean):
    images, labels, test_images, test_labels = digits.split()
    layout = BarLayout(rows=(0, 3), columns=(0, 6), length=2)
    shards = [
        backdoor(
            images[part::4],
            labels[part::4],
            target=0,
            share=0.1,
            trigger=partial(bars, part=part, layout=layout),
            generator=seeded(part),
        )
        for part in range(4)
    ]
    victim = digits.trained(*(torch.cat(parts) for parts in zip(*shards, strict=True)))
    union = partial(bars, layout=layout)
    assert success(clean, test_images, test_labels, union, 0) < 0.05
    assert success(victim, test_images, test_labels, union, 0) > 0.9
    assert digits.accuracy(victim, test_images / 255, test_labels) > 0.93
