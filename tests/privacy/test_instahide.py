"""The formal epsilon of DP-InstaHide against known values, and its limits."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlab.privacy.instahide import VACUOUS, epsilon, epsilon_own_plus_partners, statement

TABLE = {
    0.125: (2894.5, 107.1, 25.5, 13.7),
    0.25: (53.6, 12.8, 6.87, 5.19),
    1.0: (1.718, 1.297, 1.136, 1.065),
    10.0: (0.1052, 0.1025, 0.1013, 0.1006),
}


@pytest.mark.parametrize(
    ("sigma", "k", "expected"),
    [(s, k, e) for s, row in TABLE.items() for k, e in zip((1, 2, 4, 8), row, strict=True)],
)
def test_epsilon_equals_the_published_table(sigma: float, k: int, expected: float) -> None:
    found = epsilon(n=50_000, k=k, sigma=sigma, diameter=1.0, records=50_000)
    digits = len(str(expected).split(".")[1])
    assert found == pytest.approx(expected, abs=0.5001 * 10**-digits)


@pytest.mark.parametrize(
    ("n", "k", "diameter", "expected"),
    [
        (50_000, 1, 3072.0, 48_949),
        (50_000, 4, 3072.0, 12_231),
        (6_000, 1, 784.0, 12_486),
        (6_000, 4, 784.0, 3_117),
    ],
)
def test_epsilon_of_one_image_is_vacuous(n: int, k: int, diameter: float, expected: int) -> None:
    found = epsilon(n=n, k=k, sigma=16 / 255, diameter=diameter, records=1)
    assert found == pytest.approx(expected, abs=1)
    assert statement(found) == "vacuous"


@pytest.mark.parametrize(("k", "sigma"), [(1, 357.0), (4, 178.0)])
def test_noise_for_a_useful_epsilon(k: int, sigma: float) -> None:
    found = epsilon(n=6_000, k=k, sigma=sigma, diameter=784.0, records=6_000)
    assert found == pytest.approx(8.0, rel=0.01)


@given(
    n=st.integers(2, 10**6),
    k=st.integers(1, 16),
    exponent=st.floats(-12, 8),
    records=st.integers(1, 10**6),
)
def test_amplified_epsilon_is_below_composition(
    n: int, k: int, exponent: float, records: int
) -> None:
    k = min(k, n)
    diameter = 10.0**exponent
    found = epsilon(n=n, k=k, sigma=1.0, diameter=diameter, records=records)
    plain = records * diameter / k
    assert 0 < found <= plain * (1 + 1e-12)
    # It is at least that of a record in its share of the mixtures.
    assert found >= plain * k / n * (1 - 1e-9)
    both = epsilon_own_plus_partners(
        n=n, k=k, sigma=1.0, diameter=diameter, records=records, own_records=1
    )
    assert both <= plain * (1 + 1e-12)
    assert both >= diameter / k


def test_both_formulas_agree_at_the_threshold() -> None:
    context = [epsilon(n=1000, k=1, sigma=1.0, diameter=d, records=1) for d in (40.0, 40.0 + 1e-9)]
    assert context[0] == pytest.approx(context[1], abs=1e-8)


def test_own_records_are_not_amplified() -> None:
    plain = epsilon_own_plus_partners(
        n=100, k=4, sigma=1.0, diameter=2.0, records=300, own_records=3
    )
    partner = math.log(1 + 3 / 99 * (math.exp(0.5) - 1))
    assert plain == pytest.approx(3 * 0.5 + 297 * partner)
    # With k = n every record is in every mixture.
    certain = epsilon_own_plus_partners(n=4, k=4, sigma=1.0, diameter=2.0, records=8, own_records=2)
    assert certain == pytest.approx(8 * 0.5)
    assert certain == pytest.approx(epsilon(n=4, k=4, sigma=1.0, diameter=2.0, records=8))
    # Without mixing, only a record's own copies depend on it.
    alone = epsilon_own_plus_partners(n=1, k=1, sigma=0.5, diameter=2.0, records=9, own_records=1)
    assert alone == pytest.approx(4.0)


@given(k=st.integers(1, 16), sigma=st.floats(0.01, 100), records=st.integers(1, 1000))
def test_equal_weights_equal_a_largest_weight_of_1_k(k: int, sigma: float, records: int) -> None:
    common = {"n": 50, "k": k, "sigma": sigma, "diameter": 64.0, "records": records}
    assert epsilon(**common, largest_weight=1 / k) == pytest.approx(epsilon(**common))
    plain = epsilon_own_plus_partners(**common, own_records=1)
    weighted = epsilon_own_plus_partners(**common, own_records=1, largest_weight=1 / k)
    assert weighted == pytest.approx(plain)


def test_largest_weight_scales_epsilon() -> None:
    common = {"n": 50, "k": 4, "sigma": 1.0, "diameter": 2.0, "records": 1}
    for weight in (0.25, 0.65, 1.0):
        own = epsilon_own_plus_partners(**common, own_records=1, largest_weight=weight)
        assert own == pytest.approx(weight * 2.0)
        drawn = epsilon(**common, largest_weight=weight)
        assert drawn == pytest.approx(math.log(1 + 4 / 50 * (math.exp(weight * 2.0) - 1)))


@pytest.mark.parametrize("weight", [0.2, 1.1])
def test_impossible_weight_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="largest of 4 weights must be from 1/4 to 1"):
        epsilon(n=10, k=4, sigma=1.0, diameter=1.0, records=1, largest_weight=weight)


def test_epsilon_without_noise_is_infinite() -> None:
    assert epsilon(n=10, k=2, sigma=0.0, diameter=1.0, records=1) == math.inf
    both = epsilon_own_plus_partners(n=10, k=2, sigma=0.0, diameter=1.0, records=5, own_records=0)
    assert both == math.inf
    assert epsilon(n=10, k=2, sigma=0.0, diameter=1.0, records=0) == 0.0
    # With k = 1 there are no partners whose noise could be missing.
    alone = epsilon_own_plus_partners(n=10, k=1, sigma=0.0, diameter=1.0, records=5, own_records=0)
    assert alone == 0.0
    assert epsilon(n=10, k=2, sigma=0.0, diameter=0.0, records=9) == 0.0


def test_statement_depends_on_epsilon() -> None:
    assert statement(VACUOUS) == "formal"
    assert statement(math.nextafter(VACUOUS, math.inf)) == "vacuous"
    assert statement(math.inf) == "vacuous"
    assert statement(None) == "none"


@pytest.mark.parametrize(
    "wrong", [{"k": 0}, {"k": 11}, {"sigma": -1.0}, {"sigma": math.nan}, {"records": -1}]
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        epsilon(**({"n": 10, "k": 2, "sigma": 1.0, "diameter": 1.0, "records": 5} | wrong))


def test_more_own_records_than_records_are_refused() -> None:
    with pytest.raises(ValueError, match="own_records"):
        epsilon_own_plus_partners(n=9, k=2, sigma=1.0, diameter=1.0, records=5, own_records=6)
