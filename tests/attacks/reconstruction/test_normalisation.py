"""A normalisation that was stated wrongly is noticed without truth, and a right one left alone."""

from dataclasses import replace

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from attacks.knowledge import Knowledge, LocalSGD, PublicImages
from attacks.payload import Payload
from attacks.reconstruction.normalisation import misnormalised
from attacks.reconstruction.problem import Problem
from fedlab.models import build

DIGITS = load_digits()
IMAGES = torch.tensor(DIGITS.images / 16).float().unsqueeze(1)
LABELS = torch.tensor(DIGITS.target)
PUBLIC = PublicImages(IMAGES[1000:1400], LABELS[1000:1400])
NORMALISATIONS = {"own": ((0.3,), (0.376,)), "none": ((0.0,), (1.0,)), "half": ((0.5,), (0.5,))}


def network(name="convnet"):
    return build(name, shape=(1, 8, 8), classes=10, width=None, seed=0)


def client(model, normalisation, *, start=0, count=4, local=None):
    """The payload of a client, and what is known of it."""
    mean, std = NORMALISATIONS[normalisation]
    state = {name: value.detach() for name, value in model.state_dict().items()}
    own = {name: p.detach() for name, p in model.named_parameters()}
    steps = local.steps(count) if local else 1
    payload = Payload("weights" if local else "gradient", own, count, steps)
    known = Knowledge((1, 8, 8), 10, mean, std, count, local=local, public=PUBLIC)
    problem = Problem.of(model, state, payload, known)
    images, labels = IMAGES[start:][:count], LABELS[start:][:count]
    change = problem.simulate(problem.normalise(images), labels, create_graph=False)
    sent = {n: own[n] - tensor if local else tensor for n, tensor in change.items()}
    return state, replace(payload, tensors=sent), known


def findings(model, state, payload, known, stated):
    mean, std = NORMALISATIONS[stated]
    draws = torch.Generator().manual_seed(0)
    return misnormalised(model, state, payload, replace(known, mean=mean, std=std), generator=draws)


@pytest.mark.parametrize("local", [None, LocalSGD(0.05, batch_size=2, momentum=0.9)])
@pytest.mark.parametrize("name", ["mlp", "convnet"])
def test_honest_clients_are_left_alone(name, local):
    model = network(name)
    for start, true in enumerate(NORMALISATIONS):
        given = client(model, true, start=40 * start, local=local)
        assert not findings(model, *given, stated=true)


@pytest.mark.parametrize(("true", "stated"), [("own", "none"), ("half", "none"), ("none", "half")])
def test_wrong_normalisation_is_named(true, stated):
    model = network("mlp")
    found = [findings(model, *client(model, true, start=start), stated) for start in (0, 40)]
    assert all(found)
    mean, std = NORMALISATIONS[stated]
    assert f"not with mean {mean[0]:.3g} and std {std[0]:.3g} as stated" in found[0][0]


def test_the_learning_rate_plays_no_part():
    model = network("mlp")
    state, payload, known = client(model, "own", local=LocalSGD(0.05, batch_size=4))
    wrong = replace(known, local=LocalSGD(0.5, batch_size=4))
    assert not findings(model, state, payload, wrong, "own")
    assert findings(model, state, payload, wrong, "none")


@pytest.mark.parametrize(
    "changes",
    [{"public": None}, {"public": PublicImages(PUBLIC.images)}, {"defenses": ("pruning",)}],
)
def test_nothing_is_said_where_it_cannot_be_compared(changes):
    model = network("mlp")
    state, payload, known = client(model, "own")
    assert not findings(model, state, payload, replace(known, **changes), "none")


@pytest.mark.parametrize("first", [nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(1)])
def test_other_first_layers_are_left_alone(first):
    torch.manual_seed(0)
    model = nn.Sequential(first, nn.Flatten(), nn.LazyLinear(10))
    model(IMAGES[:2])
    assert not findings(model, *client(model.eval(), "own"), stated="none")
