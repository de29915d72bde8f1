"""Every robust rule against its definition in NumPy, and against attackers up to its number."""

import numpy as np
import pytest

from tests.server.votes import SIZE, STATE, changes_of, flat, model, vote

N, F = 11, 2  # Bulyan's least for two attackers
COUNTS = [3, 5, 1, 8, 2, 9, 4, 4, 6, 7, 10]
ROOT = model(np.full(SIZE, 0.4) + 0.02 * np.arange(SIZE))

RULES = {
    "FedMedian": {},
    "FedTrimmedAvg": {"beta": F / N + 0.01},
    "Krum": {"num_malicious_nodes": F},
    "MultiKrum": {"num_malicious_nodes": F, "num_nodes_to_select": 5},
    "Bulyan": {"num_malicious_nodes": F},
    "NormClipping": {},
    "GeometricMedian": {},
    "FLTrust": {},
    "FLAME": {"noise_level": 0.0},
    "DnC": {"num_malicious_nodes": F},
    "CenteredClipping": {},
}


def honest(n=N, seed=0, spread=0.1):
    return 0.5 + spread * np.random.default_rng(seed).standard_normal((n, SIZE))


def krum_order(changes, f):
    distances = np.square(changes[:, None] - changes[None]).sum(2)
    closest = max(1, f, len(changes) - f - 2)
    scores = [np.sort(np.delete(row, i))[:closest].sum() for i, row in enumerate(distances)]
    return np.argsort(scores)


def bulyan_order(changes, f):
    """Krum on the replies that are left, as in the paper's section 4."""
    left, chosen = list(range(len(changes))), []
    while len(chosen) < len(changes) - 2 * f:
        chosen.append(left.pop(krum_order(changes[left], f)[0]))
    return np.asarray(chosen)


def bulyan(changes, f):
    theta = len(changes) - 2 * f
    kept = changes[bulyan_order(changes, f)]
    result = []
    for column in kept.T:
        nearest = np.argsort(np.abs(column - np.median(column)))[: theta - 2 * f]
        result.append(column[nearest].mean())
    return np.asarray(result)


def clipped(changes):
    norms = np.linalg.norm(changes, axis=1)
    return (changes * np.minimum(1, np.median(norms) / norms)[:, None]).mean(0)


def geometric_median(changes):
    point = changes.mean(0)
    for _ in range(5000):
        weights = 1 / np.linalg.norm(changes - point, axis=1)
        point = weights @ changes / weights.sum()
    return point


def fltrust(changes, root):
    norms, length = np.linalg.norm(changes, axis=1), np.linalg.norm(root)
    trust = np.maximum(0, changes @ root / norms / length)
    return (trust * length / norms) @ changes / trust.sum()


def majority(changes):
    """The first component with a majority as the cosine distance between models grows."""
    models = flat(STATE) + changes
    units = models / np.linalg.norm(models, axis=1, keepdims=True)
    distances = 1 - units @ units.T
    for height in np.sort(distances, axis=None):
        reached = np.linalg.matrix_power((distances <= height).astype(int), len(changes)) > 0
        if reached.sum(1).max() > len(changes) // 2:
            return np.flatnonzero(reached[reached.sum(1).argmax()])
    return None


def flame(changes):
    norms = np.linalg.norm(changes, axis=1)
    shortened = changes * np.minimum(1, np.median(norms) / norms)[:, None]
    return shortened[majority(changes)].mean(0)


def inliers(changes):
    centred = changes - changes.mean(0)
    direction = np.linalg.svd(centred)[2][0]
    return np.argsort(np.square(centred @ direction))[: len(changes) - F]


def reference(name, changes):
    five = krum_order(changes, F)[:5]
    return {
        "FedMedian": lambda: np.median(changes, axis=0),
        "FedTrimmedAvg": lambda: np.sort(changes, axis=0)[F:-F].mean(0),
        "Krum": lambda: changes[five[0]],
        "MultiKrum": lambda: changes[five].mean(0),
        "Bulyan": lambda: bulyan(changes, F),
        "NormClipping": lambda: clipped(changes),
        "GeometricMedian": lambda: geometric_median(changes),
        "FLTrust": lambda: fltrust(changes, changes_of([ROOT])[0]),
        "FLAME": lambda: flame(changes),
        "DnC": lambda: changes[inliers(changes)].mean(0),
        "CenteredClipping": lambda: clipped(changes),  # in the first round, around 0
    }[name]()


def outcome(name, models, options=None):
    root = ROOT if name == "FLTrust" else None
    done = vote(models, name, RULES[name] if options is None else options, counts=COUNTS, root=root)
    return flat(done.arrays) - flat(STATE), done.used


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_rule_is_its_definition(name, seed):
    models = [model(change) for change in honest(seed=seed, spread=1.0)]
    changes = changes_of(models)
    found, used = outcome(name, models)
    np.testing.assert_allclose(found, reference(name, changes), atol=2e-5)
    best = krum_order(changes, F)
    chosen = {"Krum": best[:1], "MultiKrum": best[:5], "Bulyan": bulyan_order(changes, F)}
    chosen |= {"FLAME": majority(changes), "DnC": inliers(changes)}
    if name == "FLTrust":
        assert used == set(np.flatnonzero(changes @ changes_of([ROOT])[0] > 0))
    else:
        assert used == (set(chosen[name].tolist()) if name in chosen else None)


ATTACKS = {
    "reversed": lambda _: np.full(SIZE, -1e4),
    "huge": lambda _: np.full(SIZE, 3e38),
    "two sides": lambda attacker: np.full(SIZE, 1e6 * (-1) ** attacker),
    "one coordinate": lambda _: np.eye(SIZE)[3] * -1e8,
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("attack", ATTACKS)
def test_attackers_move_it_within_the_honest_spread(name, attack):
    good = honest()
    models = [model(change) for change in good]
    for attacker in range(F):  # in the midst of the others
        models[3 + attacker] = model(ATTACKS[attack](attacker))
    kept = np.delete(changes_of(models), [3, 4], axis=0)
    spread = np.linalg.norm(kept - kept.mean(0), axis=1).max()
    found, used = outcome(name, models)
    if name in ("NormClipping", "CenteredClipping"):
        bound = np.median(np.linalg.norm(np.insert(kept, 0, 1e9, axis=0), axis=1))
        spread += 2 * bound * F / N
    elif name == "FLTrust":
        # At most the root's norm, however long what is sent.
        assert np.linalg.norm(found) <= np.linalg.norm(changes_of([ROOT])) * (1 + 1e-5)
        spread += np.linalg.norm(changes_of([ROOT])[0] - kept.mean(0)) * 2
    assert np.linalg.norm(found - kept.mean(0)) <= spread
    if used is not None and attack in ("reversed", "one coordinate"):
        assert not used & {3, 4}


def test_a_plain_mean_is_moved():
    models = [model(change) for change in honest()]
    models[3] = model(np.full(SIZE, -1e4))
    assert np.linalg.norm(flat(vote(models, "FedAvg").arrays)) > 1e3


@pytest.mark.parametrize("name", RULES)
def test_without_an_attack_it_stays_with_the_honest(name):
    models = [model(change) for change in honest()]
    changes = changes_of(models)
    found, used = outcome(name, models)
    spread = np.linalg.norm(changes - changes.mean(0), axis=1).max()
    if name == "FLTrust":
        assert used == set(range(N))
        spread += np.linalg.norm(changes_of([ROOT])[0] - changes.mean(0))
    assert np.linalg.norm(found - changes.mean(0)) <= spread


@pytest.mark.parametrize("name", ["Krum", "MultiKrum", "Bulyan"])
def test_near_models_far_from_zero_are_distinguished(name):
    """Their distances are lost in float32, where Flower would take them from squared norms."""
    state = {name: value + 300 for name, value in STATE.items()}
    models = [model(change, state) for change in honest(spread=0.02)]
    for attacker in (3, 4):
        models[attacker] = model(np.full(SIZE, 0.3), state)
    done = vote(models, name, RULES[name], counts=COUNTS, state=state)
    assert not done.used & {3, 4}
    order = bulyan_order if name == "Bulyan" else krum_order
    expected = order(changes_of(models, state), F)[: len(done.used)]
    assert done.used == set(expected.tolist())
    assert all(value.dtype == STATE[name].dtype for name, value in done.arrays.items())


class TestNormClipping:
    def test_a_norm_of_its_own(self):
        models = [model(change) for change in honest(spread=1.0)]
        changes = changes_of(models)
        norms = np.linalg.norm(changes, axis=1)
        expected = (changes * np.minimum(1, 0.7 / norms)[:, None]).mean(0)
        found, _ = outcome("NormClipping", models, {"clipping_norm": 0.7})
        np.testing.assert_allclose(found, expected, atol=1e-6)

    def test_weights_count_only_if_asked_for(self):
        models = [model(change) for change in honest(spread=1.0)]
        changes = changes_of(models)
        expected = np.average(changes, axis=0, weights=COUNTS)
        found, _ = outcome("NormClipping", models, {"clipping_norm": 1e6, "weighted": True})
        np.testing.assert_allclose(found, expected, atol=1e-6)

    def test_noise_has_the_stated_deviation(self):
        state = {"weight": STATE["weight"].new_zeros(200, 200)}
        options = {"noise": 0.3}
        drawn = [flat(vote([state] * 3, "NormClipping", options, state=state).arrays) for _ in "12"]
        # Six standard errors of 40,000 draws.
        assert drawn[0].std() == pytest.approx(0.3, rel=6 / np.sqrt(2 * 40_000))
        np.testing.assert_array_equal(*drawn)

    def test_changes_of_nothing_are_no_division_by_zero(self):
        found, _ = outcome("NormClipping", [STATE] * N)
        assert not found.any()


class TestGeometricMedian:
    def test_nothing_near_it_is_nearer_to_all(self):
        models = [model(change) for change in honest(spread=1.0)]
        changes = changes_of(models)
        found, _ = outcome("GeometricMedian", models)

        def objective(point):
            return np.linalg.norm(changes - point, axis=1).sum()

        random = np.random.default_rng(0)
        for step in 1e-3 * random.standard_normal((50, SIZE)):
            assert objective(found) < objective(found + step)

    def test_weights_count_only_if_asked_for(self):
        models = [model(change) for change in honest(spread=1.0)]
        twice = [each for each, count in zip(models, COUNTS, strict=True) for _ in range(count)]
        expected = geometric_median(changes_of(twice))
        found, _ = outcome("GeometricMedian", models, {"weighted": True})
        np.testing.assert_allclose(found, expected, atol=2e-5)

    def test_a_change_that_most_send_is_the_median(self):
        models = [model(np.full(SIZE, 0.3))] * 7 + [model(np.full(SIZE, -2.0))] * 4
        found, _ = outcome("GeometricMedian", models)
        np.testing.assert_allclose(found, np.full(SIZE, 0.3), atol=1e-5)


class TestFLTrust:
    def test_a_majority_of_attackers_is_not_believed(self):
        models = [model(change) for change in honest()]
        for attacker in range(8):
            models[attacker] = model(np.full(SIZE, -1e4))
        found, used = outcome("FLTrust", models)
        assert used == {8, 9, 10}
        kept = changes_of(models)[8:]
        np.testing.assert_allclose(found, fltrust(kept, changes_of([ROOT])[0]), atol=1e-5)

    @pytest.mark.parametrize("root", [ROOT, STATE], ids=["all against it", "no root change"])
    def test_if_nobody_is_trusted_the_model_stays(self, root, caplog):
        models = [model(np.full(SIZE, -0.2))] * 3
        done = vote(models, "FLTrust", root=root)
        assert done.used == frozenset()
        np.testing.assert_array_equal(flat(done.arrays), flat(STATE))
        assert "round 1: FLTrust uses none of 3 replies" in caplog.text


def test_bulyan_scores_anew_after_each_selection():
    """Among these replies the lowest scores of one run of Krum are another selection."""
    for seed in range(20):
        models = [model(change) for change in honest(seed=seed, spread=1.0)]
        changes = changes_of(models)
        _, used = outcome("Bulyan", models)
        assert used == set(bulyan_order(changes, F).tolist())
        if used != set(krum_order(changes, F)[: N - 2 * F].tolist()):
            return
    pytest.fail("both selections are the same for all seeds")


@pytest.mark.parametrize("weighted", [False, True])
def test_multi_krum_weighs_replies_equally_unless_told(weighted):
    models = [model(change) for change in honest(spread=1.0)]
    changes = changes_of(models)
    chosen = krum_order(changes, F)[:5]
    found, _ = outcome("MultiKrum", models, RULES["MultiKrum"] | {"weighted": weighted})
    weights = np.asarray(COUNTS)[chosen] if weighted else None
    np.testing.assert_allclose(
        found, np.average(changes[chosen], axis=0, weights=weights), atol=2e-5
    )
