"""Costs of questions without an answer: they count until the client tells what it spent."""

from fedlab.privacy.release import PrivacyRelease
from fedlab.privacy.unanswered import Unanswered, continued


def cost(round, participation=0, mechanism="clip-noise"):
    return PrivacyRelease(round, participation, mechanism)


def test_a_question_counts_until_it_is_answered():
    open_questions = Unanswered()
    open_questions.ask({0: (cost(1),), 1: (cost(1),)})
    open_questions.answer({1: (cost(1),)})
    assert open_questions.beyond({1: (cost(1),)}) == {0: (cost(1),)}


def test_a_client_may_answer_that_it_spent_nothing():
    open_questions = Unanswered()
    open_questions.ask({0: (cost(1),)})
    open_questions.answer({0: ()})
    assert open_questions.beyond({}) == {}


def test_an_answer_leaves_earlier_questions_that_it_does_not_mention():
    open_questions = Unanswered()
    for round in (1, 2, 3):
        open_questions.ask({0: (cost(round, round - 1), cost(round, round - 1, "dp-sgd"))})
    told = (cost(2), cost(3, 1))
    open_questions.answer({0: told})
    assert open_questions.beyond({0: told}) == {0: (cost(1, 2), cost(1, 2, "dp-sgd"))}


def test_a_round_that_is_asked_again_is_another_question():
    for told, left in [((), 1), ((cost(1),), 1), ((cost(1), cost(1, 1)), 0)]:
        open_questions = Unanswered()
        open_questions.ask({0: (cost(1),)})
        open_questions.ask({0: (cost(1, 1),)})
        open_questions.answer({0: told})
        assert len(open_questions.beyond({0: told}).get(0, ())) == left


def test_histories_go_on():
    assert continued({0: (cost(1),), 1: ()}, {0: (cost(2, 1),), 2: (cost(2),)}) == {
        0: (cost(1), cost(2, 1)),
        1: (),
        2: (cost(2),),
    }
