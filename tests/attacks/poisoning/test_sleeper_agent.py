"""Tests of Sleeper Agent."""

import torch

from attacks.poisoning.crafting import CraftSettings
from attacks.poisoning.selection import choose_steepest
from attacks.poisoning.sleeper_agent import sleeper_agent
from attacks.poisoning.triggers import stamp
from tests.attacks.poisoning.networks import clever, digits, seeded, surrogate


def shard():
    """Sixty ones, twos and threes, and eight sevens that are to be taken for twos."""
    images, labels = digits()
    few = (labels >= 1) & (labels <= 3)
    return images[few][:60], labels[few][:60], images[labels == 7][-8:]


def trigger(images):
    return stamp(images, size=3)


def sleepers(steps=25, restarts=1, **given):
    images, labels, sources = shard()
    return sleeper_agent(
        [surrogate(clever(3))],
        images,
        labels,
        sources=sources,
        target_class=2,
        count=6,
        settings=CraftSettings(steps=steps, restarts=restarts),
        generator=seeded(),
        **{"trigger": trigger} | given,
    )


def test_steepest_target_images_become_poisons():
    found = sleepers()
    images, labels, _ = shard()
    where = surrogate(clever(3))
    steepest = choose_steepest(where, images, labels, target_class=2, count=6)
    assert torch.equal(found.chosen, steepest)
    costs = found.crafted.costs[0]
    assert float(costs[-1]) < float(costs[0]) - 0.1
    change = found.crafted.images.int() - images[found.chosen].int()
    assert 14 <= int(change.abs().max()) <= 16


def test_matches_the_gradient_of_triggered_images():
    """Poisons for one trigger fit another one less."""
    where, (_, _, few) = surrogate(clever(3)), shard()

    def fit(poisons, corner):
        stamped = stamp(few, size=3, corner=corner).float() / 255
        wanted = where.gradient(stamped, torch.full((8,), 2))
        got = where.gradient(poisons.float() / 255, torch.full((6,), 2))
        vectors = (torch.cat([g.flatten() for g in each.values()]) for each in (wanted, got))
        return float(torch.nn.functional.cosine_similarity(*vectors, dim=0))

    other = sleepers(trigger=lambda images: stamp(images, size=3, corner="top-left"))
    one, two = sleepers().crafted.images, other.crafted.images
    assert fit(one, "bottom-right") > fit(two, "bottom-right") + 0.02
    assert fit(two, "top-left") > fit(one, "top-left") + 0.02


def test_no_poison_shows_the_trigger():
    seen = []
    images, labels, sources = shard()

    def recording(images):
        seen.append(len(images))
        return trigger(images)

    found = sleeper_agent(
        [surrogate(clever(3))],
        torch.zeros_like(images),
        labels,
        sources=sources,
        target_class=2,
        trigger=recording,
        count=6,
        settings=CraftSettings(steps=3, restarts=1),
        generator=seeded(),
    )
    assert seen == [8]  # the sources, and no training image
    assert int(found.crafted.images.max()) <= 16


def test_network_is_retrained_on_current_poisons():
    given, (clean, _, _) = [], shard()

    def retrain(images):
        given.append(images)
        return surrogate(clever(3))

    found = sleepers(steps=20, retrain=retrain, retrains=3)
    assert len(given) == 3
    for images in given:
        changed = (images != clean).flatten(1).any(1)
        assert sorted(changed.nonzero().flatten().tolist()) == sorted(found.chosen.tolist())
        assert int((images.int() - clean.int()).abs().max()) <= 16
    # The poisons fit the last network, not the first.
    last, first = (
        sleepers(steps=20, retrain=lambda images, s=s: surrogate(clever(s)), retrains=3)
        for s in (5, 3)
    )
    assert torch.equal(first.crafted.images, sleepers(steps=20).crafted.images)
    assert not torch.equal(last.crafted.images, first.crafted.images)
