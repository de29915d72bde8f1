"""FLAME's clusters beside HDBSCAN and its noise; the random coordinates and short rounds of DnC."""

import numpy as np
import pytest
from sklearn.cluster import HDBSCAN

from fedlab.core.seeds import derive
from fedlab.server.aggregation import Aggregation
from fedlab.server.dnc import outlier_scores
from fedlab.server.flame import majority_cluster
from tests.server.votes import SIZE, STATE, changes_of, flat, model, vote


def drawn(count, seed, spread=1.0):
    return 0.5 + spread * np.random.default_rng(seed).standard_normal((count, SIZE))


def hdbscan(rows):
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    distances = np.maximum(0, 1 - units @ units.T)
    np.fill_diagonal(distances, 0)
    clusters = HDBSCAN(
        min_cluster_size=len(rows) // 2 + 1,
        min_samples=1,
        metric="precomputed",
        allow_single_cluster=True,
        copy=True,
    )
    return np.flatnonzero(clusters.fit(distances).labels_ == 0).tolist()


class TestFlame:
    @pytest.mark.parametrize("count", [3, 4, 7, 12, 25])
    def test_the_cluster_is_that_of_hdbscan(self, count):
        for seed in range(20):
            rows = drawn(count, seed)
            found = majority_cluster(list(rows))
            assert found == hdbscan(rows)
            assert len(found) > count // 2

    def test_a_tight_minority_is_left_out(self):
        rows = [*drawn(6, 0, spread=0.1), *(-drawn(5, 1, spread=1e-6))]
        assert set(majority_cluster(rows)) <= set(range(6))

    def test_models_that_are_alike_are_one_cluster(self):
        assert majority_cluster([np.ones(4)] * 5) == [0, 1, 2, 3, 4]
        assert majority_cluster([np.zeros(4)] * 3) == [0, 1, 2]

    def test_noise_is_a_share_of_the_median_norm(self):
        state = {"weight": STATE["weight"].new_ones(200, 200)}
        moved = {"weight": state["weight"] + 0.01}  # of norm 2
        found = [
            flat(vote([moved] * 3, "FLAME", {"noise_level": 0.1}, state=state).arrays) for _ in "12"
        ]
        noise = found[0] - flat(moved)
        # Six standard errors of 40,000 draws.
        assert noise.std() == pytest.approx(0.2, rel=6 / np.sqrt(2 * 40_000))
        np.testing.assert_array_equal(*found)

    def test_two_replies_leave_the_model_unchanged(self, caplog):
        done = vote([STATE] * 2, "FLAME")
        assert (done.arrays, done.used) == ({}, frozenset())
        assert "FLAME has only 2 replies and the model stays as it is" in caplog.text


class TestDnC:
    @pytest.mark.parametrize("seed", range(5))
    def test_scores_are_projections_on_the_singular_vector(self, seed):
        rows = drawn(9, seed)
        centred = rows - rows.mean(0)
        expected = np.square(centred @ np.linalg.svd(centred)[2][0])
        np.testing.assert_allclose(outlier_scores(rows), expected, rtol=1e-9, atol=1e-12)

    def test_what_is_kept_on_every_set_is_averaged(self):
        models = [model(change) for change in drawn(11, 0)]
        changes = changes_of(models)
        options = {"num_malicious_nodes": 3, "iterations": 3, "coordinates": 4}
        random = np.random.RandomState(derive(0, "central noise", 1) % 2**32)
        kept = set(range(11))
        for _ in range(3):
            part = changes[:, random.choice(SIZE, 4, replace=False)]
            part = part - part.mean(0)
            scores = np.square(part @ np.linalg.svd(part)[2][0])
            kept &= set(np.argsort(scores)[:8].tolist())
        done = vote(models, "DnC", options)
        assert done.used == kept
        assert 0 < len(kept) < 8
        found = flat(done.arrays) - flat(STATE)
        np.testing.assert_allclose(found, changes[sorted(kept)].mean(0), atol=1e-6)

    def test_if_nothing_is_kept_the_model_stays(self, caplog):
        models = [model(change) for change in drawn(4, 0)]
        options = {"filtering": 3.0, "coordinates": 1, "iterations": 40}
        done = vote(models, "DnC", options)
        assert done.used == frozenset()
        np.testing.assert_array_equal(flat(done.arrays), flat(STATE))
        assert "DnC uses none of 4 replies" in caplog.text

    @pytest.mark.parametrize(("left", "tolerated"), [(6, 2), (2, 0), (1, 0)])
    def test_a_short_round_lowers_the_attackers(self, left, tolerated, caplog):
        rule = Aggregation("DnC", {"num_malicious_nodes": 3}, cohort=7)
        done = vote([model(c) for c in drawn(left, 0)], "DnC", aggregation=rule)
        assert len(done.used) == left - tolerated
        assert caplog.messages == [
            f"DnC has {left} replies, too few for 3 malicious clients; it tolerates {tolerated}"
        ]
