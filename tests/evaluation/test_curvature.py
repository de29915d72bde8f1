"""Gradient and Hessian of a loss against the whole Hessian of a small network."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from fedlab.evaluation.curvature import curvature


def case():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    draws = torch.Generator().manual_seed(1)
    inputs = torch.randn(12, 1, 2, 2, generator=draws, dtype=torch.float64)
    return network, inputs, torch.randint(2, (12,), generator=draws)


def test_extremes_are_those_of_the_whole_hessian():
    network, inputs, labels = case()
    shapes = {name: p.shape for name, p in network.named_parameters()}
    flat = torch.cat([p.detach().flatten() for p in network.parameters()])

    def loss(vector):
        parts = vector.split([shape.numel() for shape in shapes.values()])
        state = {n: part.view(shapes[n]) for n, part in zip(shapes, parts, strict=True)}
        return functional.cross_entropy(functional_call(network, state, (inputs,)), labels)

    values = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat))
    gradient = torch.autograd.functional.jacobian(loss, flat)
    found = curvature(network, inputs, labels, generator=torch.Generator().manual_seed(0))
    assert float(values[0]) < -1e-3  # a random start is no minimum
    assert found.smallest == pytest.approx(float(values[0]), rel=1e-6)
    assert found.largest == pytest.approx(float(values[-1]), rel=1e-6)
    assert found.gradient_norm == pytest.approx(float(gradient.norm()), rel=1e-9)
    assert found.loss == pytest.approx(float(loss(flat)), rel=1e-12)


def test_few_steps_bound_the_spectrum_from_within():
    network, inputs, labels = case()
    whole, few = (
        curvature(network, inputs, labels, steps=n, generator=torch.Generator().manual_seed(0))
        for n in (100, 3)
    )
    assert whole.smallest < few.smallest < few.largest < whole.largest


def test_network_stays_as_it_was():
    network, inputs, labels = case()
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    curvature(network, inputs, labels, steps=2, generator=torch.Generator().manual_seed(0))
    assert network.training
    assert all(torch.equal(before[n], value) for n, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
