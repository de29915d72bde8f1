"""Tests of ALIE and its largest z."""

from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attacks.model_poisoning.little_is_enough import largest_z, little_is_enough


@pytest.mark.parametrize(
    ("clients", "malicious", "z"),
    [(20, 4, 0.157), (50, 10, 0.253), (50, 24, 1.426), (100, 20, 0.286), (10, 2, 0.0)],
)
def test_largest_z_of_known_federations(clients, malicious, z):
    assert largest_z(clients, malicious) == pytest.approx(z, abs=5e-4)


@given(clients=st.integers(3, 300), data=st.data())
def test_more_attackers_allow_a_larger_z(clients, data):
    most = (clients + 1) // 2 - 1
    malicious = data.draw(st.integers(1, most))
    z = largest_z(clients, malicious)
    assert z >= 0
    honest, supporters = clients - malicious, clients // 2 + 1 - malicious
    assert NormalDist().cdf(z) == pytest.approx(max(0.5, (honest - supporters) / honest))
    if malicious < most:
        assert largest_z(clients, malicious + 1) >= z


@pytest.mark.parametrize(("clients", "malicious"), [(10, 0), (10, 6), (3, 2)])
def test_no_attacker_or_a_majority_has_no_z(clients, malicious):
    with pytest.raises(ValueError, match="no majority"):
        largest_z(clients, malicious)


def test_shift_counts_deviations_per_coordinate():
    changes = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    known = changes.numpy().astype(np.float64)
    expected = known.mean(0) - 1.5 * known.std(0)
    np.testing.assert_allclose(little_is_enough(changes, z=1.5).numpy(), expected, atol=1e-6)
    assert torch.equal(little_is_enough(changes[:1], z=1.5), changes[0])


def test_largest_z_leaves_enough_honest_outliers():
    """Those with the attackers are a majority, in the mean over many coordinates."""
    clients, malicious = 50, 20
    changes = torch.randn(
        clients - malicious, 4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    z = largest_z(clients, malicious)
    sent = little_is_enough(changes, z=z)
    beyond = float((changes < sent).double().sum(0).mean())
    supporters = clients // 2 + 1 - malicious
    assert beyond == pytest.approx(supporters, abs=0.3)
    assert malicious + beyond > clients / 2
