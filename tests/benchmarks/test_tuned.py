"""The benchmark of the self-tuning attack: disjoint images, kept cells, sums that are right."""

import pytest

from benchmarks.tuned import (
    CLIENTS,
    FIRST_SCORED,
    FIRST_SURROGATE,
    Result,
    _claims,
    _networks,
)
from fedlab.core.errors import BadInput
from fedlab.evaluation.self_tuning import VICTIMS


def result(auto, rival, best):
    return Result(
        auto=[auto],
        breaching={"0.1": [rival], "0.5": [rival - 9]},
        grid={"1: worse": [best - 9], "2: better": [best]},
        choice="",
        seconds=1.0,
        tuning=0.5,
        iterations=9,
        accuracy=None,
    )


def test_surrogates_and_scored_images_are_disjoint():
    assert all(FIRST_SURROGATE + VICTIMS * batch <= FIRST_SCORED for batch in CLIENTS)


def test_both_rivals_count_at_their_best_in_hindsight():
    one = result(20.0, 18.0, 21.0)
    assert (one.rival, one.best) == ("0.1", "2: better")
    assert (one.gain, one.regret) == (2.0, 1.0)


@pytest.mark.parametrize(
    ("auto", "held"),
    [(25.0, [True, True, True]), (22.0, [False, True, False]), (19.0, [False, False, False])],
)
def test_each_claim_fails_on_its_own_ground(auto, held):
    assert [claim.holds for claim in _claims({"a": result(auto, 20.0, 25.0)})] == held


def test_an_unknown_network_is_refused():
    with pytest.raises(BadInput, match="known: convnet 8"):
        _networks("convnet 9")
