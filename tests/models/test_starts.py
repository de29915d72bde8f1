"""Biases of -20 switch every ReLU off, those of 20 make the network linear."""

import pytest
import torch
from torch import nn

from attacks.gradients import batch_gradient
from fedlab.client.federated_data import FederatedData
from fedlab.core.errors import BadInput
from fedlab.models import build
from fedlab.models.starts import fill_biases, relu_activity
from tests.federations import finished, small

SHAPE = (1, 8, 8)


def images(n=20):
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(0))


def network(bias_start, name="mlp"):
    return build(name, shape=SHAPE, classes=4, width=16, bias_start=bias_start)


@pytest.mark.parametrize("norm", [None, "group"])
def test_every_bias_and_nothing_else_is_set(norm):
    given = {"shape": SHAPE, "classes": 4, "norm": norm, "width": 8}
    plain, filled = build("convnet", **given), build("convnet", **given, bias_start=3.0)
    for (name, one), other in zip(plain.named_parameters(), filled.parameters(), strict=True):
        expected = torch.full_like(one, 3.0) if name.endswith("bias") else one
        assert torch.equal(other, expected), name


def test_low_biases_leave_a_gradient_in_the_last_bias_only():
    model, labels = network(-20.0), torch.tensor([0, 0, 3])
    gradient = batch_gradient(model, dict(model.named_parameters()), {}, images(3), labels)
    *others, (name, last) = gradient.items()
    assert name == "5.bias"
    assert not any(tensor.any() for _, tensor in others)
    # Mean of softmax minus one-hot: it counts the labels.
    torch.testing.assert_close(last, torch.tensor([0.25 - 2 / 3, 0.25, 0.25, 0.25 - 1 / 3]))


def test_high_biases_make_the_network_linear():
    model, x = network(20.0), images()
    middle = model((x[:10] + x[10:]) / 2)
    torch.testing.assert_close(middle, (model(x[:10]) + model(x[10:])) / 2, rtol=1e-4, atol=1e-4)


def test_activity_tells_the_starts_apart():
    off, usual, on = (relu_activity(network(value), images()) for value in (-20.0, None, 20.0))
    assert (off.active, off.varying, on.varying) == (0.0, 0.0, 0.0)
    assert on.active > 0.9
    assert 0.3 < usual.active < 0.7
    assert usual.varying > 0.5


def test_activity_counts_units_by_hand():
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.ReLU())
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(2))
    found = relu_activity(model, torch.tensor([[1.0, -1.0], [1.0, 1.0]]).view(2, 1, 1, 2))
    assert (found.active, found.varying) == (0.75, 0.5)


def test_network_without_relu_or_bias_is_refused():
    with pytest.raises(BadInput, match=r"no nn\.ReLU"):
        relu_activity(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), images())
    with pytest.raises(BadInput, match=r"model\.bias_start: the network has no bias"):
        fill_biases(nn.Linear(2, 2, bias=False), 1.0)


def test_scenario_starts_from_the_biases():
    scenario = small("model.bias_start=-20")
    state = FederatedData.of(scenario).state
    assert all((value == -20).all() for name, value in state.items() if name.endswith("bias"))
    assert finished(scenario.changed(rounds=1)).activity().active == 0
