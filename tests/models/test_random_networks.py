"""Random networks under DP-SGD: a refusal in one sentence, or clipped gradients of each image."""

import os

import pytest
import torch
from hypothesis import HealthCheck, event, given, note, settings
from torch import nn

from fedlab import BadInput
from fedlab.defenses.dp_sgd import DPSGD
from fedlab.defenses.per_example import fastest
from fedlab.models import build
from fedlab.models.trial import _repeatable, _WithoutChance
from tests.defenses.contexts import seeded
from tests.defenses.private import opened
from tests.models.random_networks import CLASSES, SHAPE, networks

EXAMPLES = int(os.environ.get("FEDLAB_NETWORKS", "30"))
"""Number of random networks; raise it by the environment for a longer search."""

NORM = 1e-3


CURRENT = []
"""The network that the factory returns, and how."""


def factory(shape, classes):
    network, how = CURRENT
    if how == "scripted":
        return torch.jit.script(network)
    return torch.jit.trace(network, torch.rand(2, *shape)) if how == "traced" else network


def built(network, how):
    """The network as a scenario would build it, and why it cannot."""
    CURRENT[:] = network, how
    try:
        return build(f"{__name__}:factory", shape=SHAPE, classes=CLASSES), ""
    except BadInput as error:
        return None, str(error)


@pytest.mark.filterwarnings("ignore")
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(networks())
def test_random_network_is_refused_or_bounded(drawn):
    network, how, words = drawn
    note(words)
    model, problem = built(network, how)
    if problem:
        event("not built")
        assert "\n" not in problem
        return
    problem = DPSGD().network_problem(model, SHAPE)
    if problem:
        event("refused")
        assert problem.startswith("dp-sgd cannot train this network: ")
        assert "\n" not in problem
        return
    mode = fastest(model, SHAPE, batch_size=4, flat=True)
    event(mode)
    images, labels = torch.randn(4, *SHAPE, generator=seeded()), torch.arange(4) % CLASSES
    with opened(model, norm=NORM, expected=1, mode=mode) as gradient:
        whole = released(model, gradient, images, labels)
        for index in range(4):
            others = [place for place in range(4) if place != index]
            alone = released(model, gradient, images[index : index + 1], labels[index : index + 1])
            moved = whole - released(model, gradient, images[others], labels[others])
            assert alone.norm() <= 1.001 * NORM
            assert moved.norm() <= 1.001 * NORM + 1e-5 * whole.norm()


def released(model, gradient, images, labels):
    """The sum of clipped gradients, with all random draws of the network replaced by constants."""
    for layer in model.modules():
        if isinstance(layer, nn.RReLU):
            layer.eval()
    with _repeatable(), _WithoutChance():
        torch.manual_seed(0)
        gradient(images, labels)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.cat([parameter.grad.flatten() for parameter in trained])
