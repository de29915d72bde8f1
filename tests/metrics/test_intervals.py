"""Intervals of dependent images cover the truth about as often as they promise."""

import numpy as np
import pytest
from scipy.stats import beta, binomtest

from fedlab.metrics.intervals import share_difference, share_interval

IMAGES = 4
"""Number of images of each simulated client."""


def shares(quantiles, mean, correlation):
    """Shares of clients whose images have a correlation: a beta distribution."""
    size = 1 / correlation - 1
    return beta.ppf(quantiles, mean * size, (1 - mean) * size)


@pytest.mark.parametrize("clients", [5, 10])
@pytest.mark.parametrize("correlation", [0.001, 0.4, 0.7])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_shares_are_covered(share, correlation, clients):
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        hits = rng.binomial(IMAGES, shares(rng.random(clients), share, correlation))
        low, high = share_interval(hits, [IMAGES] * clients)
        covered += low <= share <= high
    assert covered >= 0.92 * 200


def test_ignoring_the_clients_covers_too_little():
    """The interval for independent images fails where this one holds."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        hits = rng.binomial(IMAGES, shares(rng.random(10), 0.5, 0.7)).sum()
        interval = binomtest(hits, 10 * IMAGES).proportion_ci(method="exact")
        covered += interval.low <= 0.5 <= interval.high
    assert covered < 0.85 * 200


@pytest.mark.parametrize("correlation", [0.001, 0.4, 0.7])
@pytest.mark.parametrize("pair", [(0.8, 0.3), (0.5, 0.5), (0.9, 0.05)])
def test_differences_are_covered(pair, correlation):
    rng, clients = np.random.default_rng(0), 8
    covered = 0
    for _ in range(200):
        quantiles = rng.random(clients)
        first, second = (
            (rng.binomial(IMAGES, shares(quantiles, mean, correlation)), [IMAGES] * clients)
            for mean in pair
        )
        found = share_difference(first, second)
        covered += found.low <= pair[0] - pair[1] <= found.high
    assert covered >= 0.92 * 200


def test_no_leak_in_few_clients_leaves_doubt():
    assert share_interval([0] * 5, [4] * 5)[1] == pytest.approx(1 - 0.025 ** (1 / 5))


def test_one_client_says_nothing_about_others():
    assert share_interval([3], [4]) == (0.0, 1.0)


def test_clients_that_agree_count_as_their_images():
    exact = binomtest(20, 40).proportion_ci(method="exact")
    assert share_interval([2] * 10, [4] * 10)[0] == pytest.approx(exact.low, abs=0.05)
    assert share_interval([1] * 4000, [2] * 4000) == pytest.approx((0.489, 0.511), abs=0.001)


def test_pairs_tell_more_than_two_samples():
    sizes = [4] * 6
    paired = share_difference(([4, 1, 3, 0, 4, 2], sizes), ([3, 0, 2, 0, 3, 1], sizes))
    crossed = share_difference(([4, 1, 3, 0, 4, 2], sizes), ([0, 3, 1, 3, 0, 2], sizes))
    assert paired.high - paired.low < 0.7 * (crossed.high - crossed.low)


@pytest.mark.parametrize(("hits", "sizes"), [([1], [0]), ([2, 1], [4]), ([5], [4]), ([], [])])
def test_impossible_counts_are_refused(hits, sizes):
    with pytest.raises(ValueError, match="item"):
        share_interval(hits, sizes)


def test_unpaired_clusters_are_refused():
    with pytest.raises(ValueError, match="2 clusters cannot be paired with 1"):
        share_difference(([1, 1], [4, 4]), ([1], [4]))
