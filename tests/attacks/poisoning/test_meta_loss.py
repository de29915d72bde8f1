"""Tests of unrolled training, against explicit SGD and finite differences in float64."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from attacks.poisoning.meta_loss import FLOOR, margin, meta_loss
from attacks.poisoning.surrogate import Surrogate

RATE, DECAY = 0.3, 0.01


def surrogate():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 16, 4)]
    model = nn.Sequential(*layers).double().eval()
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    return Surrogate(model, parameters, {}, lambda pixels: (pixels - 0.4) / 0.3)


def problem(steps):
    generator = torch.Generator().manual_seed(1)

    def drawn(*shape):
        return torch.rand(*shape, 1, 6, 6, generator=generator, dtype=torch.float64)

    labels = torch.randint(4, (steps, 3), generator=generator)
    return {
        "poisons": drawn(2),
        "poison_labels": torch.tensor([2, 2]),
        "clean": drawn(steps, 3),
        "clean_labels": labels,
        "targets": drawn(2),
        "intended": torch.tensor([2, 1]),
    }


def explicit(network, given, *, first_only, every_step, loss):
    """The same, step by step, with the forward pass written out."""
    weight, bias, matrix, offset = (p.clone().requires_grad_() for p in network.parameters.values())

    def logits(pixels):
        hidden = functional.conv2d(network.network_input(pixels), weight, bias).tanh()
        return hidden.flatten(1) @ matrix.T + offset

    losses = []
    for step, (clean, labels) in enumerate(zip(given["clean"], given["clean_labels"], strict=True)):
        poisons = given["poisons"].detach() if first_only and step else given["poisons"]
        said = logits(torch.cat([poisons, clean]))
        chosen = torch.cat([given["poison_labels"], labels])
        entropy = -said.log_softmax(1)[torch.arange(len(said)), chosen].mean()
        state = (weight, bias, matrix, offset)
        slopes = torch.autograd.grad(entropy, state, create_graph=True)
        weight, bias, matrix, offset = (
            p - RATE * (g + DECAY * p) for p, g in zip(state, slopes, strict=True)
        )
        losses.append(loss(logits(given["targets"]), given["intended"]))
    return sum(losses) / len(losses) if every_step else losses[-1]


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("first_only", [True, False])
@pytest.mark.parametrize("every_step", [True, False])
@pytest.mark.parametrize("name", ["carlini-wagner", "cross-entropy"])
def test_meta_loss_matches_explicit_steps(steps, first_only, every_step, name):
    network, given = surrogate(), problem(steps)
    poisons = given["poisons"].requires_grad_()
    options = {"first_only": first_only, "every_step": every_step}
    loss = margin if name == "carlini-wagner" else functional.cross_entropy
    found = meta_loss(network, **given, lr=RATE, weight_decay=DECAY, loss=name, **options)
    expected = explicit(network, given, loss=loss, **options)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    slopes = [torch.autograd.grad(value, poisons)[0] for value in (found, expected)]
    assert float(slopes[1].norm()) > 1e-4
    torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2])
def test_meta_gradient_matches_finite_differences(steps):
    network, given = surrogate(), problem(steps)
    poisons = given.pop("poisons").requires_grad_()

    def ahead(candidate):
        return meta_loss(network, candidate, **given, lr=RATE, first_only=False)

    assert torch.autograd.gradcheck(ahead, poisons)


def test_options_matter_from_the_second_step():
    def slope(steps, **options):
        given = problem(steps)
        poisons = given["poisons"].requires_grad_()
        loss = meta_loss(surrogate(), **given, lr=RATE, **options)
        return torch.autograd.grad(loss, poisons)[0]

    for option in ("first_only", "every_step"):
        assert torch.equal(slope(1, **{option: True}), slope(1, **{option: False}))
        assert not torch.allclose(slope(2, **{option: True}), slope(2, **{option: False}))


def test_surrogate_is_unchanged():
    network, given = surrogate(), problem(2)
    before = {name: p.clone() for name, p in network.parameters.items()}
    meta_loss(network, **given, lr=RATE)
    assert all(torch.equal(p, before[name]) for name, p in network.parameters.items())
    assert all(p.grad is None for p in network.model.parameters())


def test_margin_is_negative_on_success_and_bounded():
    logits = torch.tensor([[3.0, 1.0, -2.0], [0.0, 5.0, 1.0]])
    assert float(margin(logits, torch.tensor([0, 1]))) == pytest.approx((-2 - 4) / 2)
    assert float(margin(logits, torch.tensor([2, 0]))) == pytest.approx((5 + 5) / 2)
    assert float(margin(torch.tensor([[0.0, 999.0]]), torch.tensor([1]))) == FLOOR
    # All logits below zero: another class at zero must not be made up.
    assert float(margin(torch.tensor([[-3.0, -1.0]]), torch.tensor([1]))) == -2
