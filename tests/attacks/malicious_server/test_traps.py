"""Tests of trap weights on random and handwritten images."""

from statistics import NormalDist

import pytest
import torch
from torch import nn

from attacks.gradients import batch_gradient
from attacks.malicious_server.passed_image import first_linear, images_passed, layer_input
from attacks.malicious_server.traps import NORM, check_traps, read_caught, set_traps
from fedlab.models import build

SHAPE, CLASSES = (3, 8, 8), 5
MEAN, STD = (0.5, 0.4, 0.3), (0.3, 0.25, 0.2)
RULES = ("quantile", "halves")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def channels(values):
    return torch.tensor(values).view(1, -1, 1, 1)


def normalised(pixels):
    return (pixels - channels(MEAN)) / channels(STD)


LOW, HIGH = normalised(torch.zeros(1, 3, 1, 1)), normalised(torch.ones(1, 3, 1, 1))


def images(count, seed=1):
    """Images of 8 bits: smooth random ones, whose pixels depend on each other as in photographs."""
    coarse = torch.rand((count, 3, 3, 3), generator=seeded(seed))
    smooth = nn.functional.interpolate(coarse, SHAPE[1:], mode="bilinear")
    return normalised((smooth * 255).round() / 255)


def network(width=300):
    return build("mlp", shape=SHAPE, classes=CLASSES, width=width, seed=1)


def headed(filters=48):
    """Convolutions with steps of 2 and of 1 pixel before two fully connected layers."""
    return nn.Sequential(
        nn.Conv2d(3, 12, 5, padding=2, stride=2),
        nn.ReLU(),
        nn.Conv2d(12, filters, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(filters * 16, 300),
        nn.ReLU(),
        nn.Linear(300, CLASSES),
    )


def state_of(model):
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def trapped(model, *, batch_size, rule="quantile", reference=None):
    return set_traps(
        model,
        state_of(model),
        shape=SHAPE,
        rule=rule,
        batch_size=batch_size,
        generator=seeded(),
        mean=MEAN,
        std=STD,
        reference=reference,
    )


def caught(model, state, batch):
    labels = torch.arange(len(batch)) % CLASSES
    gradient = batch_gradient(model, state, {}, batch, labels)
    return read_caught(model, state, gradient, shape=SHAPE, low=LOW, high=HIGH)


def activations(model, state, batch):
    layer = first_linear(model)
    features = layer_input(model, state, layer, batch)
    return features @ state[f"{layer}.weight"].T + state[f"{layer}.bias"] > 0


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("make", [network, headed])
def test_images_of_a_batch_are_exact(make, rule):
    model, batch = make(), images(6)
    state = trapped(model, batch_size=6, rule=rule, reference=images(300, seed=2))
    found = caught(model, state, batch)
    distance = (found.images[:6, None] - batch).abs().flatten(2).amax(2)
    assert sorted(distance.argmin(1).tolist()) == [*range(6)]
    assert distance.amin(1).max() < 1e-4
    alone = activations(model, state, batch).sum(0) == 1
    assert alone[found.units[:6]].all()
    # Mixtures are between the levels of 8 bits, and behind the images.
    assert found.distance[:6].max() < 0.01
    assert found.distance[6:].min() > 0.05


def test_an_image_in_several_units_is_found_once():
    model = network()
    state = trapped(model, batch_size=2)
    found = caught(model, state, images(1))
    assert activations(model, state, images(1)).sum() > 20
    assert len(found.images) == 1


def test_the_other_layers_keep_their_weights():
    model = network()
    before, after = state_of(model), trapped(model, batch_size=2)
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed == {"1.weight", "1.bias"}
    assert all(torch.equal(state_of(model)[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("batch_size", [2, 8, 32])
@pytest.mark.parametrize("rule", RULES)
def test_a_share_of_public_images_activates_a_unit(rule, batch_size):
    model = network()
    state = trapped(model, batch_size=batch_size, rule=rule, reference=images(1000, seed=2))
    rate = activations(model, state, images(1000, seed=3)).double().mean()
    assert float(rate) * batch_size == pytest.approx(1, rel=0.15)


@pytest.mark.parametrize("batch_size", [2, 8, 32])
def test_bias_is_the_quantile_of_standardised_pixels(batch_size):
    model = network()
    state = trapped(model, batch_size=batch_size)
    z = NormalDist().inv_cdf(1 - 1 / batch_size)
    torch.testing.assert_close(state["1.bias"], -z * state["1.weight"].norm(dim=1))
    noise = torch.randn((4000, *SHAPE), generator=seeded(3))
    rates = activations(model, state, noise).double().mean(0)
    assert float(rates.mean()) * batch_size == pytest.approx(1, rel=0.05)
    # Alone in a unit with probability (1 - 1/B)^(B - 1), given B images of which it answers to 1/B.
    alone = activations(model, state, noise).view(-1, batch_size, 300).sum(1) == 1
    expected = (1 - 1 / batch_size) ** (batch_size - 1)
    assert float(alone.double().mean()) == pytest.approx(expected, rel=0.05)


def test_halves_have_the_same_numbers_on_pixels():
    model = network()
    state = trapped(model, batch_size=8, rule="halves")
    rows = state["1.weight"] / channels(STD).expand(1, *SHAPE).flatten(1)
    negative, positive = (-rows).clamp(min=0), rows.clamp(min=0)
    assert (negative > 0).sum(1).tolist() == (positive > 0).sum(1).tolist() == [96] * 300
    torch.testing.assert_close(positive.sum(1), 0.95 * negative.sum(1))
    torch.testing.assert_close(state["1.weight"].norm(dim=1), torch.full((300,), NORM))
    # A black image, whose normalised pixels are below 0, gives no unit anything.
    black = layer_input(model, state, "1", LOW.expand(1, *SHAPE))
    torch.testing.assert_close(black @ state["1.weight"].T, -state["1.bias"][None])


def test_a_network_with_convolutions_passes_images_on():
    model = headed()
    check_traps(model, shape=SHAPE, generator=seeded(), mean=MEAN, std=STD)
    state = trapped(model, batch_size=4)
    features = layer_input(model, state, "5", images(3))
    assert features.shape == (3, 768)
    torch.testing.assert_close(images_passed(model, state, "5", features, shape=SHAPE), images(3))
    assert not model.get_submodule("5")._forward_pre_hooks


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (build("convnet", shape=SHAPE, classes=CLASSES, width=48), "7 has no ReLU behind it"),
        (build("convnet", shape=SHAPE, classes=CLASSES, width=8), "has 8 channels, and the image"),
        (build("lenet", shape=SHAPE, classes=CLASSES, width=48), "what reaches 7 is not the image"),
        (headed(filters=8), "2 has 8 channels, and the image needs 12"),
        (nn.Sequential(nn.Conv2d(3, CLASSES, 8), nn.Flatten()), "no fully connected layer"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(192, 9, bias=False), nn.ReLU(), nn.Linear(9, 5)),
            "1 has no bias",
        ),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(192, 9), nn.LeakyReLU(), nn.Linear(9, 5)),
            "1 has no ReLU behind it",
        ),
        (
            nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(48, 9), nn.ReLU()),
            "what reaches 2 is not the image",
        ),
        (
            nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(192, 9), nn.ReLU()),
            "what reaches 2 is not the image",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 64, 2, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)),
            "0 does not see every pixel",
        ),
    ],
)
def test_other_networks_are_refused(model, reason):
    with pytest.raises(ValueError, match="a network such as mlp") as caught:
        check_traps(model, shape=SHAPE, generator=seeded(), mean=MEAN, std=STD)
    assert reason in str(caught.value)


def test_a_gradient_that_is_not_finite_is_refused():
    model = network()
    state = trapped(model, batch_size=4)
    gradient = {name: torch.full_like(tensor, float("nan")) for name, tensor in state.items()}
    with pytest.raises(ValueError, match="the gradient of 1 is not finite"):
        read_caught(model, state, gradient, shape=SHAPE, low=LOW, high=HIGH)
    nothing = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    assert not len(read_caught(model, state, nothing, shape=SHAPE, low=LOW, high=HIGH).images)
