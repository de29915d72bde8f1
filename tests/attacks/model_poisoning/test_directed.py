"""Tests of sign flip, Gaussian and inner product manipulation against their formulas."""

import math

import pytest
import torch

from attacks.model_poisoning.gaussian import gaussian
from attacks.model_poisoning.inner_product import inner_product
from attacks.model_poisoning.sign_flip import sign_flip


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def honest(clients=8, d=500, seed=0):
    return 0.3 + torch.randn(clients, d, generator=seeded(seed))


def test_sign_flip_reverses_the_change():
    change = honest(1)[0]
    before = change.clone()
    assert torch.equal(sign_flip(change, factor=4.0), -4 * before)
    assert torch.equal(sign_flip(change), -before)
    assert torch.equal(change, before)


@pytest.mark.parametrize("norm", [1e-3, 1.0, 50.0])
def test_gaussian_has_honest_norm_and_random_direction(norm):
    change = honest(1, d=4000)[0]
    change *= norm / change.norm()
    drawn = gaussian(change, generator=seeded(1))
    assert float(drawn.norm()) == pytest.approx(norm, rel=1e-5)
    # The cosine with anything fixed has a deviation of 1 / sqrt(d).
    assert abs(float(torch.cosine_similarity(drawn, change, dim=0))) < 5 / math.sqrt(4000)
    assert torch.equal(drawn, gaussian(change, generator=seeded(1)))
    assert not torch.equal(drawn, gaussian(change, generator=seeded(2)))


def test_given_scale_replaces_the_norm():
    drawn = gaussian(torch.zeros(40_000), scale=0.2, generator=seeded())
    # Six standard errors.
    assert float(drawn.std()) == pytest.approx(0.2, rel=6 / math.sqrt(2 * 40_000))
    assert not gaussian(torch.ones(5), scale=0.0, generator=seeded()).any()


def test_mean_reverses_above_the_critical_epsilon():
    changes = honest(8)
    mean = changes.mean(0)
    for epsilon, sign in ((0.5, 1), (3.9, 1), (4.1, -1)):  # 8 honest, 2 colluding
        sent = inner_product(changes, epsilon=epsilon)
        together = torch.cat([changes, sent.expand(2, -1)]).mean(0)
        assert float(together @ mean) * sign > 0
    torch.testing.assert_close(inner_product(changes, epsilon=0.1), -0.1 * mean)


def test_useless_settings_are_refused():
    with pytest.raises(ValueError, match="sign flip must be above 0"):
        sign_flip(torch.ones(2), factor=0.0)
    with pytest.raises(ValueError, match="must be above 0"):
        inner_product(torch.ones(2, 2), epsilon=-1.0)
    with pytest.raises(ValueError, match="below 0"):
        gaussian(torch.ones(2), scale=-1.0, generator=seeded())
