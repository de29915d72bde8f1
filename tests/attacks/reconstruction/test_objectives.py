"""Every objective against its definition in numpy, and its gradient against float64 autograd."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from attacks.reconstruction.components import MASKS, OBJECTIVES
from attacks.reconstruction.objectives import (
    bottleneck,
    cosine,
    layer_cosine,
    masked,
    misalignment,
    orthogonal,
)


def tensors(seed, scale=1.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return {
        "a": scale * torch.randn(3, 2, generator=generator, dtype=dtype),
        "b": scale * torch.randn(4, generator=generator, dtype=dtype),
    }


def flat(group):
    return torch.cat([tensor.flatten() for tensor in group.values()])


DEFINITIONS = {
    "cosine": lambda g, t: 1 - functional.cosine_similarity(flat(g), flat(t), dim=0),
    "layer-cosine": lambda g, t: torch.stack(
        [1 - functional.cosine_similarity(g[n].flatten(), t[n].flatten(), dim=0) for n in t]
    ).mean(),
    "l2": lambda g, t: (flat(g) - flat(t)).square().sum(),
    "l1": lambda g, t: (flat(g) - flat(t)).abs().sum(),
    "orthogonal": lambda g, t: torch.stack(
        [
            functional.cosine_similarity(g[n].flatten(), t[n].flatten(), dim=0).square()
            + (g[n].norm() / t[n].norm()).log().square()
            for n in t
        ]
    ).mean(),
}
GENERAL = [name for name in OBJECTIVES if name != "bottleneck"]
"""Objectives for all networks."""
MATCHING = [name for name in GENERAL if name != "orthogonal"]
"""Those that are 0 where both payloads are the same."""


@pytest.mark.parametrize("name", GENERAL)
def test_value_and_gradient_match_float64(name):
    target, other = tensors(0), tensors(1)
    moved = {key: tensor.clone().requires_grad_() for key, tensor in other.items()}
    cost = OBJECTIVES[name](target)(moved)
    found = torch.autograd.grad(cost, list(moved.values()))
    exact = {key: tensor.double().requires_grad_() for key, tensor in other.items()}
    expected = DEFINITIONS[name](exact, {key: t.double() for key, t in target.items()})
    slopes = torch.autograd.grad(expected, list(exact.values()))
    assert cost.item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-6)
    for one, other_slope in zip(found, slopes, strict=True):
        torch.testing.assert_close(one.double(), other_slope, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["cosine", "layer-cosine"])
def test_cosine_ignores_scale_and_is_zero_at_match(name):
    target = tensors(0)
    cost = OBJECTIVES[name](target)({key: 1e-3 * value for key, value in target.items()})
    assert float(cost) == pytest.approx(0, abs=1e-6)


def test_tensors_count_by_their_size():
    target = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0])}
    other = {"a": torch.tensor([0.0, 3.0]), "b": torch.tensor([4.0])}
    assert float(cosine(target)(other)) == pytest.approx(1 - 16 / 25)
    assert float(layer_cosine(target)(other)) == pytest.approx(0.5)


def test_a_tensor_of_zeros_has_no_cosine_of_its_own():
    target = {"a": torch.ones(2), "b": torch.zeros(3)}
    cost = layer_cosine(target)({"a": torch.ones(2), "b": torch.ones(3)})
    assert float(cost) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", GENERAL)
@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_a_payload_without_direction_is_refused(name, value):
    with pytest.raises(ValueError, match="no direction to match"):
        OBJECTIVES[name]({"a": torch.full((3,), value)})


@pytest.mark.parametrize("name", MATCHING)
def test_a_mask_looks_only_at_what_pruning_left(name):
    whole, other = tensors(0), tensors(1)
    pruned = {key: t * (t.abs() > 0.7) for key, t in whole.items()}
    kept = {key: t != 0 for key, t in pruned.items()}
    cost = masked(OBJECTIVES[name], pruned, mask="nonzero")
    elsewhere = {key: torch.where(kept[key], t, t + 5) for key, t in other.items()}
    assert float(cost(other)) == pytest.approx(float(cost(elsewhere)))
    assert float(cost(whole)) == pytest.approx(0, abs=1e-6)
    assert float(OBJECTIVES[name](pruned)(whole)) > 0.01


def test_orthogonal_and_as_long_costs_nothing():
    target = {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([0.0, 2.0]), "c": torch.zeros(2)}
    turned = {"a": torch.tensor([4.0, -3.0]), "b": torch.tensor([2.0, 0.0]), "c": torch.ones(2)}
    assert float(orthogonal(target)(turned)) == pytest.approx(0, abs=1e-6)
    assert float(orthogonal(target)({**turned, "a": target["a"]})) == pytest.approx(0.5)
    longer = {name: 2 * tensor for name, tensor in turned.items()}
    assert float(orthogonal(target)(longer)) == pytest.approx(math.log(2) ** 2)


def test_entries_above_the_noise_are_kept():
    """In columns without zeros most entries are noise; in others all but zeros are exact."""
    noise = 0.1 * torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    target = {"weight": noise, "bias": torch.tensor([0.0, 5.0, -0.01]), "scale": torch.tensor(1.0)}
    target["weight"][:2, 0], target["weight"][2:, 2], target["weight"][0, 2] = 1.0, 0.0, 1e-3
    kept = MASKS["prominent"](target)
    assert kept["weight"][:2, 0].all()
    assert 2 <= int(kept["weight"][:, :2].sum()) <= 8  # three in a thousand beyond 3 deviations
    np.testing.assert_array_equal(kept["weight"][:3, 2], [1, 1, 0])
    np.testing.assert_array_equal(kept["bias"], [0, 1, 1])
    assert float(kept["scale"]) == 0


def outer(features, slope, before):
    """The gradient of a bottleneck's first layer for one image, and of a layer before it."""
    return {
        "0.weight": before,
        "4.bottleneck.encoder.weight": torch.outer(slope, features),
        "4.bottleneck.encoder.bias": slope,
        "4.classifier.weight": torch.randn(3, 3),
    }


def test_features_are_compared_whatever_the_noise():
    features, before = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    sent = outer(features, torch.tensor([0.5, -1.0, 2.0]), before)
    cost = bottleneck(sent)
    noise = torch.tensor([-4.0, 1.0, 0.1])
    assert float(cost(outer(features, noise, 2 * before))) == pytest.approx(0, abs=1e-6)
    assert float(cost(outer(2 * features, noise, before))) == pytest.approx(1, rel=1e-5)
    turned = torch.tensor([4.0, -3.0])
    assert float(cost(outer(features, noise, turned))) == pytest.approx(1, rel=1e-5)
    behind = {name: sent[name] for name in list(sent)[1:]}
    assert float(bottleneck(behind)(outer(2 * features, noise, turned))) == pytest.approx(1)


def test_network_without_bottleneck_is_refused():
    with pytest.raises(ValueError, match="needs a network with a variational bottleneck"):
        bottleneck({"a": torch.ones(2)})


def test_saturated_entries_are_left_out():
    clipped = {"a": torch.tensor([0.5, -0.5, 0.2]), "b": torch.tensor([-0.1])}
    kept = MASKS["unsaturated"](clipped)
    np.testing.assert_array_equal(kept["a"], [0, 0, 1])
    np.testing.assert_array_equal(kept["b"], [1])


def test_to_no_gradient_everything_is_at_right_angles():
    zero, one = {"a": torch.zeros(3)}, {"a": torch.ones(3)}
    assert float(misalignment(zero)(one)) == 1
    assert float(misalignment(one)(zero)) == 1
    assert float(misalignment(one)(one)) == pytest.approx(0, abs=1e-6)
    assert float(misalignment(tensors(0))(tensors(1))) == pytest.approx(
        float(cosine(tensors(0))(tensors(1))), abs=1e-6
    )
