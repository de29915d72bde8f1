"""Whoever waits for an attack sees how far it is."""

from contextlib import nullcontext

import pytest

from fedlab import Federation
from fedlab.core import progress as shown
from tests.federations import small


@pytest.fixture
def told(monkeypatch):
    """What is told of each task, by its title."""
    found = {}

    def kept(title, total, unit, *_):
        steps = found.setdefault((title, total, unit), [])
        return nullcontext(lambda done, words="": steps.append(done))

    monkeypatch.setattr(shown, "_log", kept)
    monkeypatch.setattr(shown, "_bar", kept)
    return found


@pytest.fixture
def federation():
    found = Federation(
        small(rounds=1, roles=[{"role": "leaking", "clients": "0"}], captures={"keep": "all"})
    )
    found.run()
    return found


def test_iterations_of_all_restarts_are_told(told, federation):
    told.clear()
    federation.reconstruct(round=1, client=0, preset="fast", iterations=6, restarts=2)
    steps = told["reconstruction", 12, "iterations"]
    assert steps == sorted(steps)
    assert steps[-1] == 12


def test_the_choice_of_settings_is_told_first(told, federation):
    told.clear()
    options = {"preset": "auto", "iterations": 4, "tuning_iterations": 40}
    federation.reconstruct(round=1, client=0, power=False, **options)
    (first, total, _), (second, *_) = told
    assert (first, total) == ("choosing settings on simulated clients", 40)
    assert second == "reconstruction"
    assert 0 < max(told[first, 40, "iterations"]) <= 40


def test_a_watch_that_chooses_its_iterations_still_does(told, federation):
    called = []

    class Chosen:
        def wants(self, iteration):
            return iteration == 3

        def __call__(self, state):
            called.append(state.iteration)

    federation.reconstruct(round=1, client=0, preset="fast", iterations=6, watch=Chosen())
    assert called == [3, 6]
    assert told["reconstruction", 6, "iterations"] == [3, 6]
