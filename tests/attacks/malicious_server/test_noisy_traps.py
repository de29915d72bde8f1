"""Tests of the read-out of trap weights under noise, beside the least error and the plain one."""

import pytest
import torch
from torch import nn

from attacks.gradients import batch_gradient
from attacks.malicious_server.gaussian_prior import GaussianPrior
from attacks.malicious_server.noisy_traps import TrapLayer, read_noisy
from attacks.malicious_server.traps import read_caught, set_traps
from fedlab.models import build

SHAPE, CLASSES, UNITS, BATCH = (3, 8, 8), 5, 300, 6
LOW, HIGH = torch.full((1, 3, 1, 1), -2.0), torch.full((1, 3, 1, 1), 2.0)
LABELS = torch.arange(BATCH) % CLASSES


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def images(count, seed):
    """Smooth random images of 8 bits, normalised with mean 0.5 and deviation 0.25."""
    coarse = torch.rand((count, 3, 3, 3), generator=seeded(seed))
    smooth = nn.functional.interpolate(coarse, SHAPE[1:], mode="bilinear")
    return (smooth * 255).round() / 255 * 4 - 2


def trapped():
    """The layer that was sent to a client."""
    model = build("mlp", shape=SHAPE, classes=CLASSES, width=UNITS, seed=1)
    state = set_traps(
        model,
        {name: tensor.detach() for name, tensor in model.state_dict().items()},
        shape=SHAPE,
        rule="quantile",
        batch_size=BATCH,
        generator=seeded(0),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        reference=images(300, 2),
    )
    prior = GaussianPrior.of(images(300, 2))
    return TrapLayer(
        model, state, "1", shape=SHAPE, classes=CLASSES, low=LOW, high=HIGH, prior=prior
    )


def gradient_of(layer, batch, labels=LABELS):
    return batch_gradient(layer.model, layer.state, {}, batch, labels)


def rows_of(gradient):
    return torch.cat([gradient["1.weight"], gradient["1.bias"][:, None]], dim=1)


def noisy(gradient, ratio, seed=3):
    """The gradient with noise of a ratio to the largest share, and its deviation."""
    deviation, draws = ratio * float(gradient["1.bias"].abs().max()), seeded(seed)
    return deviation, {
        name: tensor + deviation * torch.randn(tensor.shape, generator=draws)
        for name, tensor in gradient.items()
    }


def errors(batch, found):
    """Mean squared error of the nearest found image, and its place, for each image."""
    return (batch[:, None] - found).square().flatten(2).mean(2).min(1)


def least_errors(layer, batch, deviation):
    """Mean squared errors that noise leaves to whoever knows all shares."""
    shares = layer.shares(batch)[torch.arange(BATCH), LABELS].double() / BATCH
    return deviation**2 * torch.linalg.inv(shares @ shares.T).diagonal()


def test_vanishing_noise_leaves_exact_images():
    layer, batch = trapped(), images(BATCH, 1)
    deviation, sent = noisy(gradient_of(layer, batch), 1e-6)
    found = read_noisy(layer, rows_of(sent), deviation=deviation, most=BATCH)
    error, place = errors(batch, found.images)
    assert error.max() < 1e-7
    assert sorted(place.tolist()) == [*range(BATCH)]
    assert torch.equal(found.labels[place], LABELS)


@pytest.mark.parametrize("ratio", [0.01, 0.03])
def test_errors_are_near_the_least_that_noise_leaves(ratio):
    layer, batch = trapped(), images(BATCH, 1)
    gradient = gradient_of(layer, batch)
    deviation, sent = noisy(gradient, ratio)
    found = read_noisy(layer, rows_of(sent), deviation=deviation, most=BATCH)
    error, place = errors(batch, found.images)
    least = least_errors(layer, batch, deviation)
    assert (error < 5 * least).all()
    assert (error / least).median() < 1.6
    assert torch.equal(found.labels[place], LABELS)
    # An image that is read from one unit has the variance of that unit alone.
    shares = layer.shares(batch)[torch.arange(BATCH), LABELS] / BATCH
    assert (error < deviation**2 / shares.square().amax(1)).sum() >= 5


def test_images_of_8_bits_differ_from_mixtures():
    layer, batch = trapped(), images(BATCH, 1)
    mixtures = 0.7 * batch + 0.3 * batch.roll(1, 0)
    level = 4 / 255
    for deviation, shown in ((0.05, True), (0.3, False)):
        variances = torch.full((BATCH,), (deviation * level) ** 2)
        noise = deviation * level * torch.randn(batch.shape, generator=seeded(3))
        exact, mixed = (
            layer.exact(layer.inputs(each + noise), variances) for each in (batch, mixtures)
        )
        assert (exact == shown).all()
        assert not mixed.any()


def test_strong_noise_hides_more_from_the_plain_one():
    layer, batch = trapped(), images(BATCH, 1)
    deviation, sent = noisy(gradient_of(layer, batch), 0.2)
    found = read_noisy(layer, rows_of(sent), deviation=deviation, most=BATCH)
    plain = read_caught(layer.model, layer.state, sent, shape=SHAPE, low=LOW, high=HIGH)
    trivial = errors(batch, images(300, 2)).values
    adapted, other = (
        errors(batch, each).values for each in (found.images, plain.images[:BATCH].clamp(-2, 2))
    )
    assert (adapted < trivial / 2).sum() >= 5
    assert (other < trivial / 2).sum() <= 2


def test_separately_clipped_images_are_found():
    layer, batch = trapped(), images(BATCH, 1)
    alone = [gradient_of(layer, batch[[k]], LABELS[[k]]) for k in range(BATCH)]
    factors = torch.linspace(0.05, 0.15, BATCH)
    mean = {
        name: sum(each[name] * factor for each, factor in zip(alone, factors, strict=True))
        for name in alone[0]
    }
    deviation, sent = noisy(mean, 0.01)
    found = read_noisy(layer, rows_of(sent), deviation=deviation, most=BATCH)
    error, place = errors(batch, found.images)
    # The image of the least share, near the mean of all images, is alone in few units.
    assert (error < 0.02).tolist() == [False] + [True] * (BATCH - 1)
    assert torch.equal(found.labels[place][1:], LABELS[1:])


def test_at_most_so_many_images_are_returned():
    layer, batch = trapped(), images(BATCH, 1)
    deviation, sent = noisy(gradient_of(layer, batch), 0.01)
    found = read_noisy(layer, rows_of(sent), deviation=deviation, most=2)
    assert len(found.images) == len(found.labels) == len(found.variances) == 2
    assert errors(found.images, batch).values.max() < 0.02
    nothing = read_noisy(layer, torch.zeros_like(rows_of(sent)), deviation=1.0, most=2)
    assert len(nothing.images) == len(nothing.labels) == 0
    assert not layer.model.get_submodule("1")._forward_hooks
