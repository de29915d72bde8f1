"""A network is made from a module, a class, a function or a name, as its user has it."""

import pytest
import torch
from torch import nn

from fedlab import BadInput
from fedlab.integrations.external_network import network_name, network_of
from tests.integrations.plain_app import Net, make

HERE = "tests.integrations.test_external_network"


class Plain(nn.Sequential):
    """A network as tutorials write it, without parameters."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 10))


class Wide(nn.Module):
    def __init__(self, hidden, classes=10):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.Linear(hidden, classes))

    def forward(self, images):
        return self.layers(images)


MADE = Plain()


def anything(**given):
    return Net(shape=given["shape"], classes=given["classes"])


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (Plain, "Plain"),
        (MADE, "Plain"),
        (f"{HERE}:Plain", f"{HERE}:Plain"),
        (f"{HERE}:MADE", f"{HERE}:MADE"),
        (f"{HERE}:anything", f"{HERE}:anything"),
        (make, "make"),
        ("mlp", "mlp"),
    ],
)
def test_whatever_makes_a_network(model, name):
    torch.manual_seed(7)
    state = torch.get_rng_state()
    found = network_of(model, (1, 8, 8), 10)
    assert found(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert found is not MADE
    assert network_name(model) == name
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("model", [Wide, f"{HERE}:Wide"])
def test_further_arguments(model):
    assert network_of(model, (1, 8, 8), 10, {"hidden": 5}).layers[1].out_features == 5
    assert network_of("mlp", (1, 8, 8), 10, {"width": 5})


@pytest.mark.parametrize(
    ("model", "options", "sentence"),
    [
        (Wide, {}, "hidden"),
        (Wide, {"hidden": 5, "depth": 2}, "depth"),
        (MADE, {"hidden": 5}, "is made already, so hidden cannot be set"),
        ("mlp", {"hidden": 5}, 'model "mlp" has no setting hidden'),
        (f"{HERE}:Missing", {}, "has no Missing"),
        (lambda: "text", {}, "must make a torch.nn.Module"),
        (lambda: nn.Linear(64, 10), {}, "does not take images of 1x8x8"),
        (f"{HERE}:HERE", {}, "cannot be called"),
    ],
)
def test_what_makes_none_is_one_sentence(model, options, sentence):
    with pytest.raises(BadInput) as refused:
        network_of(model, (1, 8, 8), 10, options)
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
