"""The informed adversary's posterior, against direct sums over all batches."""

from itertools import product
from math import exp

import pytest
import torch

from attacks.privacy_audit.informed import posterior, sum_of_gradients

DRAWS = torch.Generator().manual_seed(0)
CANDIDATES = torch.randn(4, 6, generator=DRAWS)
RESIDUAL = torch.randn(6, generator=DRAWS)


@pytest.mark.parametrize(("rate", "steps"), [(1.0, 1), (0.3, 1), (0.4, 3), (1.0, 2)])
def test_posterior_equals_the_sum_over_all_batches(rate, steps):
    likelihoods = []
    for gradient in CANDIDATES.double():
        total = 0.0
        for joined in product((0, 1), repeat=steps):
            k = sum(joined)
            error = float((RESIDUAL.double() - k * gradient).square().sum())
            total += rate**k * (1 - rate) ** (steps - k) * exp(-error / (2 * steps * 0.8**2))
        likelihoods.append(total)
    expected = torch.tensor(likelihoods, dtype=torch.float64)
    found = posterior(RESIDUAL, CANDIDATES, deviation=0.8, sample_rate=rate, steps=steps)
    assert torch.allclose(found, expected / expected.sum())


def test_little_noise_leaves_one_candidate():
    found = posterior(CANDIDATES[2], CANDIDATES, deviation=0.01)
    assert found.argmax() == 2
    assert found.max() > 0.999


def test_sum_of_gradients_undoes_the_mean():
    assert sum_of_gradients(torch.ones(3), expected_batch_size=4).tolist() == [4.0] * 3
    with pytest.raises(ValueError, match="above 0"):
        sum_of_gradients(torch.ones(3), expected_batch_size=0)
