"""Tests that crafted poisons do more to a new victim than random noise."""

from functools import cache

import pytest
import torch

from attacks.poisoning.availability import adversarial_poisons, misalign_training
from attacks.poisoning.crafting import CraftSettings, random_perturbation
from attacks.poisoning.gradient_matching import match_gradients
from attacks.poisoning.selection import choose
from tests.attacks.poisoning.networks import accuracy, digits, logits, seeded, surrogate, trained

TRAIN = 500


@cache
def split():
    images, labels = digits()
    return images[:TRAIN], labels[:TRAIN], images[TRAIN:1000], labels[TRAIN:1000]


@cache
def clean(epochs=10):
    images, labels, _, _ = split()
    return trained(images, labels, seed=100, epochs=epochs)


def margin(model, target, intended):
    """Logit of the intended class less the largest other one."""
    found = logits(model, target)[0]
    own = float(found[intended])
    found[intended] = -torch.inf
    return own - float(found.max())


def test_gradient_matching_flips_the_target_image():
    """The control moves pixels just as far, and both leave the accuracy as it is."""
    images, labels, unseen, truth = split()
    right = (logits(clean(), unseen).argmax(1) == truth).nonzero().flatten()
    settings = CraftSettings(epsilon=48 / 255, steps=40, restarts=1, lr=0.05)
    gained = []
    for trial, place in enumerate(right[:3].tolist()):
        target, intended = unseen[place : place + 1], (int(truth[place]) + 1 + trial) % 10
        chosen = choose(labels, target_class=intended, count=30, generator=seeded(trial))
        crafted = match_gradients(
            [surrogate(clean())],
            images[chosen],
            labels[chosen],
            targets=target,
            intended=torch.tensor([intended]),
            settings=settings,
            generator=seeded(trial),
        )
        control = random_perturbation(
            images[chosen], epsilon=settings.epsilon, generator=seeded(trial)
        )
        margins = []
        for poisons in (crafted.images, control):
            planted = images.clone()
            planted[chosen] = poisons
            victim = trained(planted, labels, seed=trial)
            assert accuracy(victim, unseen, truth) > 0.9
            margins.append(margin(victim, target, intended))
        gained.append(margins[0] - margins[1])
    assert min(gained) > 1
    assert sum(gained) / 3 > 3


@pytest.mark.parametrize("attack", ["alignment", "adversarial"])
def test_availability_poisons_cost_accuracy(attack):
    """Of any change that is learned more easily than the images this is true.

    So a cost of the wrong sign passes here; ``test_availability`` looks at the direction.
    """
    images, labels, unseen, truth = split()
    epsilon = 96 / 255
    # A network that has just begun has gradients of what is learned first.
    where = [surrogate(clean(epochs=1 if attack == "alignment" else 10))]
    if attack == "alignment":
        settings = CraftSettings(epsilon=epsilon, steps=20, restarts=1, lr=epsilon / 3)
        crafted = misalign_training(where, images, labels, settings=settings, generator=seeded())
    else:
        settings = CraftSettings(epsilon=epsilon, steps=20, restarts=1, lr=epsilon / 8, rule="pgd")
        crafted = adversarial_poisons(
            where, images, labels, num_classes=10, settings=settings, generator=seeded()
        )
    control = random_perturbation(images, epsilon=epsilon, generator=seeded())
    poisoned, plain = (
        accuracy(trained(training, labels, seed=1), unseen, truth)
        for training in (crafted.images, control)
    )
    assert poisoned < plain - 0.15
