"""Tests of min-max and min-sum and their constraints."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.model_poisoning.within_spread import min_max, min_sum

DIRECTIONS = ("mean", "sign", "deviation")


def squared(points, others):
    return np.square(points[:, None] - others[None]).sum(2)


def push_of(known, direction):
    mean = known.mean(0)
    return {
        "mean": mean / np.linalg.norm(mean),
        "sign": np.sign(mean),
        "deviation": known.std(0, ddof=1),
    }[direction]


def sides(rule, known, sent):
    """Both sides of the constraint, from its definition."""
    among, own = squared(known, known), squared(sent[None], known)[0]
    if rule is min_max:
        return own.max(), among.max()
    return own.sum(), among.sum(1).min()


@settings(deadline=None, max_examples=60)
@given(
    clients=st.integers(2, 8),
    d=st.integers(2, 40),
    spread=st.floats(1e-3, 1e3),
    offset=st.floats(-2, 2),
    seed=st.integers(0, 999),
    direction=st.sampled_from(DIRECTIONS),
    rule=st.sampled_from([min_max, min_sum]),
)
def test_constraint_holds_with_equality(clients, d, spread, offset, seed, direction, rule):
    generator = torch.Generator().manual_seed(seed)
    changes = spread * (offset + torch.randn(clients, d, generator=generator, dtype=torch.float64))
    known = changes.numpy()
    sent = rule(changes, direction=direction).numpy()
    mine, bound = sides(rule, known, sent)
    assert mine <= bound * (1 + 1e-9)
    push = push_of(known, direction)
    factor = (known.mean(0) - sent) @ push / (push @ push)
    np.testing.assert_allclose(sent, known.mean(0) - factor * push, atol=1e-9 * spread)
    assert factor >= 0
    further = known.mean(0) - (factor * (1 + 1e-6) + 1e-9 * spread) * push
    assert sides(rule, known, further)[0] > bound * (1 - 1e-9)


@pytest.mark.parametrize("rule", [min_max, min_sum])
def test_constraint_is_tight_for_a_large_spread(rule):
    changes = 1e4 * torch.randn(5, 30, generator=torch.Generator().manual_seed(0))
    mine, bound = sides(rule, changes.double().numpy(), rule(changes, direction="mean").numpy())
    assert mine == pytest.approx(bound, rel=1e-4)


def test_min_sum_is_closer_to_the_mean():
    changes = torch.randn(9, 200, generator=torch.Generator().manual_seed(0)) + 0.2
    mean = changes.mean(0)
    for direction in DIRECTIONS:
        near, far = (rule(changes, direction=direction) for rule in (min_sum, min_max))
        assert 0 < (near - mean).norm() < (far - mean).norm()


@pytest.mark.parametrize("rule", [min_max, min_sum])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_equal_changes_leave_no_room(rule, direction):
    changes = torch.full((3, 4), 0.5)
    assert torch.equal(rule(changes, direction=direction), changes[0])
    assert rule(changes, direction=direction).dtype == torch.float32


def test_too_few_changes_are_refused():
    with pytest.raises(ValueError, match="needs at least two"):
        min_max(torch.ones(1, 4))
    with pytest.raises(ValueError, match='no direction "up"'):
        min_sum(torch.rand(3, 4), direction="up")
