"""Histories as text: the same whether they go on from one written before or not."""

import json

import pytest

from fedlab.privacy import history_text
from fedlab.privacy.accounts import EXAMPLE, composed, mechanisms_of
from fedlab.privacy.folds import Fold
from fedlab.privacy.history_text import from_json, to_json
from fedlab.privacy.ledger import Ledger
from fedlab.privacy.release import PrivacyRelease


def entry(round, mechanism="none", **more):
    return PrivacyRelease(round, round - 1, mechanism, **more)


def long_history(rounds=40, noise=1.0):
    noisy = {"noise_multiplier": noise, "sample_rate": 0.1, "steps": 3}
    return tuple(
        entry(each, "dp-sgd", **noisy) if each % 3 else entry(each) for each in range(1, rounds + 1)
    )


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    """Nothing was written or read before."""
    history_text._written._kept.clear()
    history_text._READ.clear()


def plainly(history):
    return json.dumps([json.loads(each.json) for each in history], separators=(",", ":"))


def test_every_beginning_is_written_as_if_it_were_alone():
    history = long_history()
    for end in range(len(history) + 1):
        text = to_json(history[:end])
        assert text == plainly(history[:end])
        assert from_json(text) == history[:end]
    assert len(history_text._written._kept) == 1
    assert set(history_text._READ) == {"[]", text}


def test_clients_that_part_are_not_mixed_up():
    common, other = long_history(20), long_history(20, noise=2.0)
    last = entry(21)
    assert to_json((*common, last)) == plainly((*common, last))
    assert to_json((*other, last)) == plainly((*other, last))
    assert to_json((*common, last, entry(22))) == plainly((*common, last, entry(22)))


def test_mechanisms_and_costs_go_on_from_the_round_before():
    history = long_history()
    for end in range(1, len(history) + 1):
        part = history[:end]
        assert list(mechanisms_of(part)) == list(dict.fromkeys(each.mechanism for each in part))
        noisy = sum(each.mechanism == "dp-sgd" for each in part)
        assert sum(count for _, _, count in composed(EXAMPLE, part).steps) == 3 * noisy


def test_rounds_between_two_questions_are_added_once():
    added = []
    fold = Fold(0, lambda found, part: added.append(part) or found + len(part), most=3)
    history = long_history(90)
    assert [fold.of(history[:end]) for end in range(5, 91, 5)] == list(range(5, 91, 5))
    assert len(added) == 90


def test_equal_history_of_other_entries_is_compared_once():
    fold = Fold(0, lambda found, part: found + len(part), most=3)
    fold.of(long_history())
    again = long_history()
    fold.of(again)
    assert next(iter(fold._kept)).history is again


def test_rows_of_a_round_are_those_of_the_whole_table():
    ledger = Ledger({0: long_history(), 1: long_history(7), 2: ()})
    everything = ledger.rows()
    for round in range(42):
        expected = [row for row in everything if row.round == round]
        assert ledger.rows(round) == expected
        assert ledger.rows(round, clients=[1]) == [row for row in expected if row.client == 1]


def test_rows_of_a_round_are_found_where_an_unanswered_task_comes_later():
    noisy = {"noise_multiplier": 1.0, "sample_rate": 0.1, "steps": 3}
    history = (entry(1), PrivacyRelease(3, 1, "dp-sgd", **noisy), PrivacyRelease(2, 2, "none"))
    ledger = Ledger({0: history})
    assert [row.mechanism for row in ledger.rows(2)] == ["none"]
    assert [row.mechanism for row in ledger.rows(3)] == ["dp-sgd"]
    assert ledger.rows(2, clients=[7]) == []


def test_course_is_that_of_the_ledger_after_each_round():
    noisy = {"noise_multiplier": 1.0, "sample_rate": 0.1, "steps": 3}
    late = (entry(1), PrivacyRelease(3, 1, "dp-sgd", **noisy), PrivacyRelease(2, 2, "none"))
    ledger = Ledger({0: long_history(12)[:1], 1: long_history(12), 2: (), 3: late})
    for total, method in ((False, Ledger.protected), (True, Ledger.total)):
        course = ledger.course(EXAMPLE, total=total)
        for round in course.index:
            expected = [method(ledger.until(round), client) for client in range(4)]
            found = [None if value != value else value for value in course.loc[round]]
            assert found == expected
