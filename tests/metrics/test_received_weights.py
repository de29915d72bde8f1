"""Signs of manipulation in received weights: 0 on honest weights and large on their attack."""

import math

import pytest
import torch
from torch import nn

from attacks.malicious_server.fishing import fish_class
from attacks.malicious_server.imprint import imprint
from attacks.malicious_server.traps import set_traps
from fedlab.metrics.received_weights import read_weights
from fedlab.models import build

SHAPE, CLASSES = (1, 8, 8), 4


@pytest.fixture
def mlp():
    return build("mlp", shape=SHAPE, classes=CLASSES, seed=0, width=32)


def images(count=16):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, *SHAPE, generator=generator), torch.arange(count) % CLASSES


def state(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def test_fresh_network_shows_no_sign(mlp):
    found = read_weights(mlp, state(mlp), *images())
    assert found.dsnr < 0.5
    assert max(found.silent, found.single) < 0.2
    assert found.copies == 0
    assert found.moved is None


def test_dsnr_is_largest_norm_over_all_others():
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
    weights = {"1.weight": torch.zeros(2, 2)}
    pixels = torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 2.0]]).view(3, 1, 1, 2)
    # At zero weights the gradient of an image is its pixels times the same error (1/2, -1/2).
    found = read_weights(model, weights, pixels, torch.tensor([0, 0, 1]))
    assert found.dsnr == pytest.approx(3 / (1 + 2))


def test_one_image_alone_gives_infinite_dsnr():
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    weights = state(model)
    weights["1.weight"], weights["1.bias"] = torch.tensor([[1.0, 0.0]] * 3), torch.full((3,), -2.0)
    pixels = torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 2.0]]).view(3, 1, 1, 2)
    found = read_weights(model, weights, pixels, torch.tensor([0, 0, 1]))
    assert math.isinf(found.dsnr)
    assert found.single == 1
    assert found.copies == 1


def test_dead_units_are_silent(mlp):
    weights = state(mlp)
    first = next(name for name in weights if name.endswith("bias"))
    weights[first] = torch.full_like(weights[first], -100.0)
    assert read_weights(mlp, weights, *images()).silent == 1


def test_class_fishing_raises_dsnr(mlp):
    weights = state(mlp)
    weight, bias = list(weights)[-2:]
    fished = fish_class(weights, weight=weight, bias=bias, target=0)
    pixels, labels = images(9)
    labels = torch.tensor([0] + [1, 2, 3] * 2 + [1, 2])
    honest = read_weights(mlp, weights, pixels, labels).dsnr
    assert read_weights(mlp, {**weights, **fished}, pixels, labels).dsnr > 10 * honest


def test_imprint_block_has_copied_rows(mlp):
    trap = imprint(mlp, shape=SHAPE, bins=8, generator=torch.Generator().manual_seed(0))
    assert read_weights(trap, state(trap), *images()).copies == 1


def test_units_of_trap_weights_react_to_few_images(mlp):
    traps = set_traps(
        mlp,
        state(mlp),
        shape=SHAPE,
        rule="quantile",
        batch_size=8,
        generator=torch.Generator().manual_seed(0),
        mean=(0.0,) * SHAPE[0],
        std=(1.0,) * SHAPE[0],
    )
    honest = read_weights(mlp, state(mlp), *images())
    found = read_weights(mlp, traps, *images())
    assert found.single > 0.2 > honest.single
    assert found.silent > 0.1 > honest.silent
    assert found.idle > 0.3 > honest.idle


def test_distance_is_relative_to_former_weights(mlp):
    before = state(mlp)
    sent = {name: 1.5 * value for name, value in before.items()}
    assert read_weights(mlp, sent, *images(), before=before).moved == pytest.approx(0.5)


def test_network_keeps_weights_and_modes(mlp):
    before = state(mlp)
    mlp.train()
    read_weights(mlp, {name: 0 * value for name, value in before.items()}, *images())
    assert mlp.training
    assert all(torch.equal(value, before[name]) for name, value in mlp.state_dict().items())


@pytest.mark.parametrize(
    ("count", "dropped", "words"), [(1, False, "at least 2 images"), (4, True, "sent no")]
)
def test_impossible_input_is_refused(mlp, count, dropped, words):
    weights = state(mlp)
    if dropped:
        del weights[next(iter(weights))]
    with pytest.raises(ValueError, match=words):
        read_weights(mlp, weights, *images(count))
