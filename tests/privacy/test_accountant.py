"""Epsilon against known values and other implementations, and the limits of each accountant."""

import math
from itertools import product

import pytest
from opacus.accountants import GaussianAccountant, PRVAccountant, RDPAccountant
from opacus.accountants.analysis import rdp

from fedlab.privacy.accountant import epsilon

TABLE = [
    (0.5, 12.361, 27.988),
    (0.7, 5.666, 11.977),
    (1.0, 2.481, 5.368),
    (1.3, 1.382, 3.283),
    (2.0, 0.600, 1.721),
]
"""Noise multiplier, and epsilon of 20 and of 200 steps at sample rate 0.05 and delta = 1e-5, by
Opacus."""


@pytest.mark.parametrize(("noise", "one", "ten"), TABLE)
def test_epsilon_of_one_round_and_of_ten(noise, one, ten):
    step = (noise, 0.05, 20)
    assert epsilon((step,), accountant="rdp", delta=1e-5) == pytest.approx(one, abs=5.1e-4)
    assert epsilon((step,) * 10, accountant="rdp", delta=1e-5) == pytest.approx(ten, abs=5.1e-4)


@pytest.mark.parametrize(
    ("noise", "naive"), [(0.5, 144.28), (0.7, 67.00), (1.0, 29.72), (1.3, 16.63), (2.0, 7.14)]
)
def test_joint_epsilon_is_below_the_sum_of_rounds(noise, naive):
    """The sum of ten rounds, each at a tenth of delta."""
    one = epsilon(((noise, 0.05, 20),), accountant="rdp", delta=1e-6)
    assert 10 * one == pytest.approx(naive, abs=5.1e-3)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (((1.0, 0.05, 100), (0.5, 0.05, 100)), 21.287),
        (((1.1, 64 / 600, 200),), 9.914),
        (((1.0, 1.0, 10),), 19.054),
    ],
)
def test_epsilon_of_mixed_histories(steps, expected):
    assert epsilon(steps, accountant="rdp", delta=1e-5) == pytest.approx(expected, abs=5.1e-4)


# dp-accounting's series for fractional orders fails at higher rates, and leaves those orders out.
GRID = list(product((0.8, 1.0, 2.0), (0.01, 0.1, 1.0), (1, 30, 300)))
PATIENT = [
    pytest.param(*each, marks=pytest.mark.long) if each[0] < 2 and each[2] == 300 else each
    for each in GRID
]
"""The same, where little noise in many steps takes half a minute to compose."""


@pytest.mark.parametrize(("noise", "rate", "steps"), GRID)
def test_rdp_equals_dp_accounting(noise, rate, steps):
    accounting = pytest.importorskip("dp_accounting")
    from dp_accounting.rdp import RdpAccountant

    gaussian = accounting.GaussianDpEvent(noise)
    theirs = RdpAccountant(RDPAccountant.DEFAULT_ALPHAS)
    theirs.compose(accounting.PoissonSampledDpEvent(rate, gaussian), steps)
    ours = epsilon(((noise, rate, steps),), accountant="rdp", delta=1e-5)
    assert ours == pytest.approx(theirs.get_epsilon(1e-5), rel=0.01)


@pytest.mark.parametrize(("noise", "rate", "steps"), PATIENT)
def test_prv_equals_dp_accounting(noise, rate, steps):
    accounting = pytest.importorskip("dp_accounting")
    from dp_accounting.pld import PLDAccountant

    gaussian = accounting.GaussianDpEvent(noise)
    theirs = PLDAccountant()
    theirs.compose(accounting.PoissonSampledDpEvent(rate, gaussian), steps)
    ours = epsilon(((noise, rate, steps),), accountant="prv", delta=1e-5)
    # Opacus' upper bound is 0.01 above its estimate.
    assert ours == pytest.approx(theirs.get_epsilon(1e-5), rel=0.01, abs=0.011)


@pytest.mark.parametrize("accountant", ["rdp", "prv", "pld"])
def test_bounds_hold_for_the_gaussian_mechanism(accountant):
    """Its exact delta is known (Balle and Wang, arXiv 1805.06083, theorem 8)."""
    noise, steps = 2.0, 5
    found = epsilon(((noise, 1.0, steps),), accountant=accountant, delta=1e-5)
    mu = math.sqrt(steps) / noise

    def below(x):
        return math.erfc(-x / math.sqrt(2)) / 2

    delta = below(mu / 2 - found / mu) - math.exp(found) * below(-mu / 2 - found / mu)
    assert delta <= 1e-5
    if accountant != "rdp":
        assert delta > 0.9e-5


@pytest.mark.filterwarnings("ignore:GDP accounting is experimental")
@pytest.mark.parametrize("steps", [(1.0, 0.05, 200), (2.0, 0.1, 1000), (0.8, 0.01, 50)])
def test_gdp_equals_opacus(steps):
    theirs = GaussianAccountant()
    theirs.history = [steps]
    ours = epsilon((steps,), accountant="gdp", delta=1e-5)
    assert ours == pytest.approx(theirs.get_epsilon(1e-5), rel=1e-9)
    noise, rate, count = steps
    split = ((noise, rate, count - 7), (noise, rate, 7))
    assert epsilon(split, accountant="gdp", delta=1e-5) == pytest.approx(ours)


@pytest.mark.parametrize(("noise", "rate", "steps"), PATIENT[1::4])
def test_pld_equals_its_finest_grid(noise, rate, steps):
    accounting = pytest.importorskip("dp_accounting")
    from dp_accounting.pld import PLDAccountant

    theirs = PLDAccountant(value_discretization_interval=1e-4)
    gaussian = accounting.GaussianDpEvent(noise)
    theirs.compose(accounting.PoissonSampledDpEvent(rate, gaussian), steps)
    ours = epsilon(((noise, rate, steps),), accountant="pld", delta=1e-5)
    assert ours == pytest.approx(theirs.get_epsilon(1e-5), rel=1e-3)


@pytest.mark.parametrize(
    ("steps", "pld", "prv", "rdp"),
    [((1.0, 0.05, 20), 1.764, 1.774, 2.250), ((1.0, 0.05, 200), 4.419, 4.429, 5.017)],
)
def test_pld_is_the_tightest(steps, pld, prv, rdp):
    for accountant, expected in (("pld", pld), ("prv", prv), ("rdp", rdp)):
        found = epsilon((steps,), accountant=accountant, delta=2.9e-5)
        assert found == pytest.approx(expected, abs=1e-3)


def test_pld_composes_unlike_steps():
    parts = ((1.0, 0.05, 100), (0.5, 0.05, 100))
    pld = epsilon(parts, accountant="pld", delta=1e-5)
    assert pld == pytest.approx(epsilon(parts, accountant="prv", delta=1e-5), abs=0.015)


@pytest.mark.parametrize("accountant", ["rdp", "prv", "pld", "gdp"])
@pytest.mark.parametrize(("noise", "delta"), [(20.0, 0.05), (1.0, 0.5), (1.0, 0.9)])
def test_epsilon_at_a_large_delta_is_not_negative(accountant, noise, delta):
    assert epsilon(((noise, 0.5, 1),), accountant=accountant, delta=delta) >= 0


def test_gdp_is_below_the_bounds():
    """For few steps it is below the result of PRV, which is nearly exact."""
    steps = ((1.0, 0.05, 20),)
    assert epsilon(steps, accountant="gdp", delta=1e-5) < 0.6 * epsilon(
        steps, accountant="prv", delta=1e-5
    )


@pytest.mark.parametrize("other", [(1.0, 0.1, 5), (0.9, 0.05, 5)])
def test_gdp_refuses_a_mixed_history(other):
    with pytest.raises(ValueError, match="one noise multiplier and one sample rate"):
        epsilon(((1.0, 0.05, 5), other), accountant="gdp", delta=1e-5)


@pytest.mark.parametrize("accountant", ["rdp", "prv", "pld", "gdp"])
def test_epsilon_at_extreme_noise(accountant):
    def of(*steps):
        return epsilon(steps, accountant=accountant, delta=1e-5)

    assert of() == of((1.0, 0.5, 0)) == 0.0
    assert of((0.0, 0.5, 1)) == math.inf
    assert of((0.01, 0.5, 1)) > 1e3
    assert 0 <= of((1e3, 1e-4, 1)) < 0.5


@pytest.mark.parametrize(("name", "kind"), [("rdp", RDPAccountant), ("prv", PRVAccountant)])
def test_epsilon_equals_opacus_over_a_history(name, kind):
    steps = ((1.0, 0.1, 30), (0.8, 0.1, 10))
    theirs = kind()
    for noise, rate, count in steps:
        for _ in range(count):
            theirs.step(noise_multiplier=noise, sample_rate=rate)
    assert epsilon(steps, accountant=name, delta=1e-5) == pytest.approx(theirs.get_epsilon(1e-5))


def test_further_rounds_of_equal_noise_are_not_solved_again(monkeypatch):
    one = epsilon(((1.03, 0.07, 5),), accountant="rdp", delta=1e-5)
    monkeypatch.setattr(rdp, "compute_rdp", lambda **_: 1 / 0)
    assert epsilon(((1.03, 0.07, 6),), accountant="rdp", delta=1e-5) > one


def test_prv_is_skipped_for_huge_epsilon(monkeypatch):
    monkeypatch.setattr(PRVAccountant, "get_epsilon", lambda *_, **__: 1 / 0)
    steps = ((0.04, 1.0, 8),)
    assert epsilon(steps, accountant="prv", delta=1e-4) == epsilon(
        steps, accountant="rdp", delta=1e-4
    )
