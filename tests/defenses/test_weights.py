"""Weights of mixtures follow their distribution, and none exceeds its cap."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlab.defenses.weights import dirichlet
from tests.defenses.contexts import seeded


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("k", [2, 4])
def test_uncapped_weights_are_dirichlet(alpha, k):
    weights = dirichlet(40_000, k, alpha=alpha, generator=seeded()).double()
    torch.testing.assert_close(weights.sum(1), torch.ones(40_000, dtype=torch.float64))
    variance = (k - 1) / (k**2 * (k * alpha + 1))
    for place in range(k):
        assert float(weights[:, place].mean()) == pytest.approx(1 / k, abs=0.01)
        assert float(weights[:, place].var()) == pytest.approx(variance, rel=0.05)
    # They are uniform on the simplex: one exceeds t with probability (1 - t)^(k - 1).
    if alpha == 1:
        above = float((weights[:, 0] > 0.3).double().mean())
        assert above == pytest.approx(0.7 ** (k - 1), abs=0.01)


@settings(deadline=None, max_examples=60)
@given(
    k=st.integers(1, 8),
    alpha=st.floats(1e-4, 50),
    above=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_capped_weight_never_exceeds_its_cap(k, alpha, above, seed):
    cap = 1 / k + above * (1 - 1 / k)
    weights = dirichlet(20, k, alpha=alpha, cap=cap, generator=seeded(seed)).double()
    assert float(weights.max()) <= cap * (1 + 1e-6)
    assert float(weights.min()) >= 0
    torch.testing.assert_close(
        weights.sum(1), torch.ones(20, dtype=torch.float64), atol=1e-5, rtol=0
    )


def test_cap_keeps_smaller_weights_and_the_order():
    free, capped = (
        dirichlet(500, 3, alpha=1.0, cap=cap, generator=seeded()) for cap in (None, 0.65)
    )
    over = free.amax(1) > 0.65
    assert 50 < int(over.sum()) < 450
    torch.testing.assert_close(capped[~over], free[~over])
    assert torch.equal(capped[over].argsort(1), free[over].argsort(1))
    torch.testing.assert_close(capped[over].amax(1), torch.full((int(over.sum()),), 0.65))


def test_tiny_alpha_gives_one_image_all_the_weight():
    weights = dirichlet(200, 3, alpha=1e-5, generator=seeded())
    assert bool(weights.isfinite().all())
    assert float(weights.amax(1).min()) > 0.99
    assert all(abs(float(share) - 1 / 3) < 0.15 for share in weights.mean(0))
    assert math.isclose(float(weights.sum()), 200, rel_tol=1e-5)
