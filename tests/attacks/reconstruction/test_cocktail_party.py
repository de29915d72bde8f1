"""Tests of the Cocktail Party Attack: components, scales, layers, and features."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from attacks.gradients import batch_gradient
from attacks.knowledge import Knowledge
from attacks.payload import Payload
from attacks.reconstruction import invert
from attacks.reconstruction.cocktail_party import independent_rows, mixing_layer, unmix
from attacks.reconstruction.presets import COCKTAIL_PARTY
from fedlab.metrics.images import match, psnr

SHAPE, CLASSES, IMAGES = (1, 24, 24), 6, 12


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=IMAGES):
    """Pictures of overlapping rectangles of one brightness each, pixels in [0, 1]."""
    draws, found = seeded(1), torch.zeros(count, *SHAPE)
    for image in found:
        for _ in range(15):
            left, top, width, height = torch.randint(1, 18, (4,), generator=draws).tolist()
            value = torch.rand((), generator=draws)
            image[:, top : top + height // 2 + 1, left : left + width // 2 + 1] = value
    return found


def mlp(units=64, bias=True):
    pixels = math.prod(SHAPE)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(pixels, units, bias=bias), nn.ReLU(), nn.Linear(units, CLASSES)
    )


def headed(units=64):
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 12 * 12, units),
        nn.ReLU(),
        nn.Linear(units, CLASSES),
    )


def gradient_of(model, pixels):
    labels = torch.arange(len(pixels)) % CLASSES
    return batch_gradient(model, dict(model.named_parameters()), {}, 2 * pixels - 1, labels), labels


def attacked(model, pixels, **changes):
    gradient, labels = gradient_of(model, pixels)
    known = Knowledge(SHAPE, CLASSES, (0.5,), (0.5,), num_images=len(pixels), labels=labels)
    state = {name: tensor.detach() for name, tensor in model.named_parameters()}
    sent = Payload("gradient", {n: t.detach() for n, t in gradient.items()}, len(pixels), 1)
    settings = replace(COCKTAIL_PARTY, **changes)
    return invert(model, state, sent, known, settings, generator=seeded())


def psnr_of(true, found):
    places, chosen = match(true, found)
    return psnr(true[places], found[chosen])


@pytest.fixture(autouse=True)
def _same_weights():
    torch.manual_seed(3)


def test_sources_of_a_mixture_are_found():
    sources = torch.distributions.Laplace(0.0, 1.0).sample((6, 4000)).double()
    mixed = torch.randn(6, 6, generator=seeded(2), dtype=torch.float64) @ sources
    mixed = mixed - mixed.mean(1, keepdim=True)
    _, _, right = torch.linalg.svd(mixed, full_matrices=False)
    white = math.sqrt(4000) * right
    found = independent_rows(white) @ white
    alike = functional.normalize(found, dim=1) @ functional.normalize(sources, dim=1).T
    assert alike.abs().max(1).values.min() > 0.99
    assert len(set(alike.abs().argmax(1).tolist())) == 6


def test_images_of_a_batch_are_unmixed_in_differences_only():
    true = images()
    result = attacked(mlp(), true)
    assert len(result.images) == IMAGES
    assert psnr_of(true, result.images).median() > 22
    gradient, _ = gradient_of(model := mlp(), true)
    layer = mixing_layer(model, gradient, IMAGES)
    plain = unmix(layer, num_images=IMAGES, grid=None).view(-1, *SHAPE)
    assert psnr_of(true, (plain / 2 + 0.5).clamp(0, 1)).median() < 16


def test_sign_and_scale_of_one_image_are_exact():
    true = images(1)
    assert psnr_of(true, attacked(mlp(), true).images) > 80


def test_features_behind_convolutions_are_inverted():
    true = images(6)
    result = attacked(headed(), true, iterations=150)
    grey = psnr_of(true, true.mean((1, 2, 3), keepdim=True).expand_as(true)).median()
    assert psnr_of(true, result.images).median() > grey + 3
    assert len(result.costs) == 150
    assert result.costs[-1] < result.costs[0] / 3


def test_equal_images_come_out_once():
    true = images(4)
    result = attacked(mlp(), true[[0, 1, 2, 3, 3]])
    assert len(result.images) == len(result.labels) == 4


@pytest.mark.parametrize("model", [mlp(units=8), mlp(bias=False)])
def test_too_few_units_or_no_bias_is_refused(model):
    with pytest.raises(ValueError, match="needs a fully connected layer with a bias and at least"):
        attacked(model, images())


def test_a_zero_gradient_is_refused():
    model = mlp()
    nothing = {name: torch.zeros_like(tensor) for name, tensor in model.named_parameters()}
    with pytest.raises(ValueError, match="zero or not finite"):
        unmix(mixing_layer(model, nothing, 4), num_images=4, grid=SHAPE)


def test_many_images_are_within_its_limit_only():
    assert COCKTAIL_PARTY.most_images == 1024
    assert replace(COCKTAIL_PARTY, method="optimise").most_images == 64
