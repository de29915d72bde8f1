"""The formal epsilon of DP-InstaHide against exact enumeration, and its limits."""

import math
from collections import Counter, defaultdict
from itertools import combinations, permutations, product

import numpy as np
import pytest

from fedlab.privacy.instahide import VACUOUS, epsilon, statement

SCALES = (0.3, 2.0)


def labelings(n):
    """Every labeling of n images up to their order and the names of the classes."""

    def parts(left, most):
        if not left:
            yield ()
        for size in range(min(left, most), 0, -1):
            yield from ((size, *rest) for rest in parts(left - size, size))

    for sizes in parts(n, n):
        yield tuple(label for label, size in enumerate(sizes) for _ in range(size))


def neighbours(n):
    """Shards of n one-pixel images, whose first image is black or white."""
    for rest in product((0.0, 1.0), repeat=n - 1):
        yield (0.0, *rest), (1.0, *rest)


def drawn(n, k):
    """Every mixture of k images without replacement."""
    return [((chosen,), 1.0) for chosen in combinations(range(n), k)]


def epoch(n, k, records):
    """Every outcome of mixing different images in turn with k - 1 partners from the others."""
    outcomes = []
    for own in permutations(range(n), records):
        partners = [combinations([i for i in range(n) if i != each], k - 1) for each in own]
        for others in product(*(list(each) for each in partners)):
            mixtures = tuple((a, *rest) for a, rest in zip(own, others, strict=True))
            outcomes.append((mixtures, 1.0))
    return outcomes


def exact(outcomes, labels, weights, sigma):
    """The largest privacy loss over all neighbours and all releases of labels and noisy pixels.

    The ratio of two sums of Laplace densities is monotone in every pixel between two of their
    centres, and constant beyond the last, so its largest value is at centres.
    """
    found = 0.0
    for pair in neighbours(len(labels)):
        kinds = defaultdict(list)
        for mixtures, probability in outcomes:
            seen = tuple(
                tuple(sorted(Counter(_weighted(labels, m, weights)).items())) for m in mixtures
            )
            centres = [
                [sum(w * v[i] for w, i in zip(weights, m, strict=True)) for m in mixtures]
                for v in pair
            ]
            kinds[seen].append((probability, *centres))
        for kind in kinds.values():
            chances = np.array([each[0] for each in kind])
            first, second = (np.array([each[place] for each in kind]) for place in (1, 2))
            corners = [np.unique(centres) for centres in np.vstack([first, second]).T]
            places = np.array(list(product(*corners)))
            one, two = (
                np.exp(-np.abs(places[:, None] - c[None]).sum(2) / sigma) @ chances
                for c in (first, second)
            )
            found = max(found, float(np.abs(np.log(one / two)).max()))
    return found


def _weighted(labels, mixture, weights):
    found = Counter()
    for place, weight in zip(mixture, weights, strict=True):
        found[labels[place]] += weight
    return {label: round(weight, 9) for label, weight in found.items()}


def amplified(n, k, sigma):
    """The former bound of one mixture, which takes the partners to be hidden."""
    return math.log1p(k / n * math.expm1(1 / (k * sigma)))


@pytest.mark.parametrize("sigma", SCALES)
@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("k", [2, 3, 4])
def test_no_labeling_exceeds_the_bound(n, k, sigma):
    """All shards of up to six images; a class of one reaches the bound exactly."""
    if k > n:
        pytest.skip("a mixture has k different images")
    bound = epsilon(k=k, sigma=sigma, diameter=1.0, records=1)
    for outcomes in (drawn(n, k), epoch(n, k, 1)):
        found = {}
        for labels in labelings(n):
            for first in sorted(set(labels)):  # the image that differs, of any class
                order = (first, *[each for each in labels if each != first])
                order += (first,) * (labels.count(first) - 1)
                found[order] = exact(outcomes, order, (1 / k,) * k, sigma)
        assert max(found.values()) <= bound + 1e-9
        alone = [value for order, value in found.items() if order.count(order[0]) == 1]
        assert alone == pytest.approx([bound] * len(alone))
        if outcomes == drawn(n, k) and n > k:
            assert max(found.values()) > amplified(n, k, sigma) + 1e-3


@pytest.mark.parametrize("sigma", SCALES)
@pytest.mark.parametrize(("n", "k", "records"), [(3, 2, 2), (3, 2, 3), (3, 3, 2), (4, 2, 2)])
def test_mixtures_of_an_epoch_compose(n, k, records, sigma):
    """An image alone in its class may be seen to be in all mixtures."""
    bound = epsilon(k=k, sigma=sigma, diameter=1.0, records=records)
    outcomes = epoch(n, k, records)
    for labels in labelings(n):
        assert exact(outcomes, labels, (1 / k,) * k, sigma) <= bound + 1e-9
    alone = (0, *(1,) * (n - 1))
    assert exact(outcomes, alone, (1 / k,) * k, sigma) == pytest.approx(bound)


@pytest.mark.parametrize("weights", [(0.65, 0.35), (0.5, 0.3, 0.2)])
def test_unequal_weights_stay_within_the_largest(weights):
    k = len(weights)
    outcomes = [
        ((order,), 1.0) for chosen in combinations(range(4), k) for order in permutations(chosen)
    ]
    bound = epsilon(k=k, sigma=0.5, diameter=1.0, records=1, largest_weight=max(weights))
    found = [exact(outcomes, labels, weights, 0.5) for labels in labelings(4)]
    assert max(found) == pytest.approx(bound)


def test_small_classes_exceed_hidden_partners():
    """Two of six images are mixed: 0.196 if the choice stayed hidden, 0.500 in a class of one."""
    assert amplified(6, 2, 1.0) == pytest.approx(0.196, abs=1e-3)
    assert exact(drawn(6, 2), (0, 1, 1, 1, 1, 1), (0.5, 0.5), 1.0) == pytest.approx(0.5)
    three = exact(drawn(6, 2), (0, 0, 1, 1, 2, 2), (0.5, 0.5), 1.0)
    assert amplified(6, 2, 1.0) < three < 0.5 + 1e-9


@pytest.mark.parametrize(
    ("k", "diameter", "expected"), [(1, 3072.0, 48_960), (4, 3072.0, 12_240), (4, 784.0, 3_124)]
)
def test_epsilon_of_one_image_is_vacuous(k, diameter, expected):
    found = epsilon(k=k, sigma=16 / 255, diameter=diameter, records=1)
    assert found == pytest.approx(expected, abs=1)
    assert statement(found) == "vacuous"


def test_largest_weight_scales_epsilon():
    common = {"k": 4, "sigma": 0.5, "diameter": 2.0, "records": 3}
    for weight in (0.25, 0.65, 1.0):
        assert epsilon(**common, largest_weight=weight) == pytest.approx(weight * 12.0)
    assert epsilon(**common) == pytest.approx(3.0)


@pytest.mark.parametrize("weight", [0.2, 1.1])
def test_impossible_weight_is_refused(weight):
    with pytest.raises(ValueError, match="largest of 4 weights must be from 1/4 to 1"):
        epsilon(k=4, sigma=1.0, diameter=1.0, records=1, largest_weight=weight)


def test_epsilon_without_noise_is_infinite():
    assert epsilon(k=2, sigma=0.0, diameter=1.0, records=1) == math.inf
    assert epsilon(k=2, sigma=0.0, diameter=1.0, records=0) == 0.0
    assert epsilon(k=2, sigma=0.0, diameter=0.0, records=9) == 0.0


def test_statement_depends_on_epsilon():
    assert statement(VACUOUS) == "formal"
    assert statement(math.nextafter(VACUOUS, math.inf)) == "vacuous"
    assert statement(math.inf) == "vacuous"
    assert statement(None) == "none"


@pytest.mark.parametrize("wrong", [{"k": 0}, {"sigma": -1.0}, {"sigma": math.nan}, {"records": -1}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        epsilon(**({"k": 2, "sigma": 1.0, "diameter": 1.0, "records": 5} | wrong))
