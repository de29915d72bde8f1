"""The norm bias is the gradient of its penalty, and the unrolled attacker takes its steps."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from attacks.gradients import batch_gradient, unroll
from attacks.knowledge import Knowledge, LocalSGD
from attacks.norm_bias import decay_factor
from attacks.payload import Payload
from attacks.reconstruction.problem import Problem
from tests.attacks.test_gradients import assert_same, assert_unrolled, batch, network

DECAY = 0.1
BELOW, ABOVE = 0.01, 1000.0
"""Targets below and above the squared norm of the network."""


@pytest.mark.parametrize("target", [BELOW, ABOVE])
def test_factor_is_the_gradient_of_the_penalty(target):
    weights = [p.detach().requires_grad_() for p in network().parameters()]
    squared = sum(w.square().sum() for w in weights)
    (DECAY / 2 * (squared - target).abs()).backward()
    factor = decay_factor(weights, weight_decay=DECAY, norm_target=target)
    for weight in weights:
        torch.testing.assert_close(weight.grad, factor * weight.detach())


def test_at_its_target_the_norm_stays():
    assert decay_factor([torch.ones(4)], weight_decay=DECAY, norm_target=4.0) == 0


class NormBiased(torch.optim.SGD):
    """SGD as in the paper's code, which adds the term to the gradients before the step."""

    def __init__(self, parameters, *, target, **options):
        super().__init__(parameters, **options)
        self.target = target

    def step(self):
        own = [p for group in self.param_groups for p in group["params"]]
        squared = sum(float(p.detach().square().sum()) for p in own)
        for parameter in own:
            sign = 1 if squared > self.target else -1
            parameter.grad.add_(sign * DECAY * parameter.detach())
        return super().step()


@pytest.mark.parametrize("target", [BELOW, 12.0, ABOVE])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize(("epochs", "size"), [(1, 5), (3, 2)])
def test_unroll_is_sgd_with_the_papers_term(target, momentum, epochs, size):
    model, (images, labels) = network(), batch()
    local = LocalSGD(0.1, momentum, DECAY, epochs, size, norm_target=target)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    found = unroll(model, start, {}, images, labels, local=local)
    optimizer = NormBiased(model.parameters(), target=target, lr=0.1, momentum=momentum)
    assert_unrolled(found, model, optimizer, epochs, size, rtol=1e-12)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_target_turns_the_decay_of_adam_around(name):
    model, (images, labels) = network(), batch()
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    local = LocalSGD(0.01, 0, DECAY, batch_size=5, optimiser=name)
    make = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    for target, decay in ((BELOW, DECAY), (ABOVE, -DECAY)):
        found = unroll(model, start, {}, images, labels, local=replace(local, norm_target=target))
        model.load_state_dict(start)
        optimizer = make(model.parameters(), lr=0.01, weight_decay=DECAY)
        optimizer.param_groups[0]["weight_decay"] = decay  # which its constructor refuses below 0
        assert_unrolled(found, model, optimizer, 1, 5, rtol=1e-12)


def test_unroll_can_be_differentiated_by_the_images():
    model, (images, labels) = network(), batch(2)
    local = LocalSGD(0.1, 0.5, DECAY, 2, 1, norm_target=ABOVE)
    start = {name: p.detach() for name, p in model.named_parameters()}

    def final(candidate):
        after = unroll(model, start, {}, candidate, labels, local=local, create_graph=True)
        return sum(value.square().sum() for value in after.values())

    assert torch.autograd.gradcheck(final, images.requires_grad_())


def test_attacker_subtracts_the_term_from_one_step():
    model, (images, labels) = network(), batch(1)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    local = LocalSGD(0.1, weight_decay=DECAY, norm_target=ABOVE)
    after = unroll(model, start, {}, images, labels, local=local)
    payload = Payload("weights", {n: t.detach() for n, t in after.items()}, 1, 1)
    known = Knowledge((1, 6, 6), 4, (0.0,), (1.0,), 1, labels, local)
    found = Problem.of(model, start, payload, known).mean_gradient()
    assert_same(found, batch_gradient(model, start, {}, images, labels))
    plain = Problem.of(model, start, payload, replace(known, local=LocalSGD(0.1)))
    weight = plain.mean_gradient()["0.weight"]
    assert functional.mse_loss(weight, found["0.weight"]) > 1e-4


@pytest.mark.parametrize("target", [-1.0, math.inf, math.nan])
def test_target_out_of_range_is_refused(target):
    with pytest.raises(ValueError, match="norm_target must be at least 0"):
        LocalSGD(0.1, norm_target=target)
