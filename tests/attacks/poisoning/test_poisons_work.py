"""From clean digits to a victim trained from scratch: poisons do what random noise does not."""

from functools import cache

import pytest
import torch

from attacks.poisoning.availability import adversarial_poisons, misalign_training
from attacks.poisoning.brewing import Brewing, random_perturbation
from attacks.poisoning.gradient_matching import match_gradients
from attacks.poisoning.selection import choose
from tests.attacks.poisoning.networks import accuracy, digits, logits, seeded, surrogate, trained

TRAIN = 600


@cache
def split():
    images, labels = digits()
    return images[:TRAIN], labels[:TRAIN], images[TRAIN:1200], labels[TRAIN:1200]


@cache
def clean():
    images, labels, _, _ = split()
    return trained(images, labels, seed=100)


def margin(model, target, intended):
    """Logit of the intended class less the largest other one."""
    found = logits(model, target)[0]
    own = float(found[intended])
    found[intended] = -torch.inf
    return own - float(found.max())


@pytest.mark.timeout(60)
def test_matched_gradients_draw_a_target_into_another_class():
    images, labels, unseen, truth = split()
    right = (logits(clean(), unseen).argmax(1) == truth).nonzero().flatten()
    settings = Brewing(epsilon=32 / 255, steps=40, restarts=1, lr=0.03)
    gained, success = [], 0
    for trial, place in enumerate(right[:3].tolist()):
        target, intended = unseen[place : place + 1], (int(truth[place]) + 1 + trial) % 10
        chosen = choose(labels, target_class=intended, count=30, generator=seeded(trial))
        brewed = match_gradients(
            [surrogate(clean())],
            images[chosen],
            labels[chosen],
            targets=target,
            intended=torch.tensor([intended]),
            settings=settings,
            generator=seeded(trial),
        )
        control = random_perturbation(images[chosen], epsilon=32 / 255, generator=seeded(trial))
        margins = []
        for poisons in (brewed.images, control):
            planted = images.clone()
            planted[chosen] = poisons
            victim = trained(planted, labels, seed=trial)
            assert accuracy(victim, unseen, truth) > 0.9
            margins.append(margin(victim, target, intended))
        gained.append(margins[0] - margins[1])
        success += margins[0] > 0
    print(gained, success)
    assert min(gained) > 0
    assert sum(gained) / 3 > 2


@pytest.mark.timeout(60)
@pytest.mark.parametrize("attack", ["alignment", "adversarial"])
def test_a_network_learns_little_from_images_turned_against_it(attack):
    images, labels, unseen, truth = split()
    epsilon, given = 64 / 255, {"generator": seeded()}
    where = [surrogate(clean())]
    if attack == "alignment":
        settings = Brewing(epsilon=epsilon, steps=30, restarts=1, lr=epsilon / 3)
        poisons = misalign_training(where, images, labels, settings=settings, **given).images
    else:
        settings = Brewing(epsilon=epsilon, steps=30, restarts=1, lr=epsilon / 10, rule="pgd")
        poisons = adversarial_poisons(
            where, images, labels, num_classes=10, settings=settings, **given
        ).images
    control = random_perturbation(images, epsilon=epsilon, generator=seeded())
    reached = [
        accuracy(trained(training, labels, seed=1), unseen, truth)
        for training in (poisons, control)
    ]
    print(reached)
    assert reached[0] < reached[1] - 0.15
