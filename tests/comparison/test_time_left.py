"""The time left of a comparison follows from runs that are over."""

import pytest

from fedlab.comparison.time_left import TimeLeft


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def runs(defenses, seeds):
    return {f"{defense}-{seed}": defense for seed in range(seeds) for defense in defenses}


def test_nothing_is_said_before_a_run_is_over(clock):
    left = TimeLeft(runs("a", 4), 2, clock=clock)
    assert left.seconds() is None
    clock.now = 1000.0
    assert left.seconds() is None


def test_equal_runs_end_when_it_was_said(clock):
    left = TimeLeft(runs("a", 6), 2, clock=clock)
    for done in range(0, 6, 2):
        clock.now += 10.0
        for name in (f"a-{done}", f"a-{done + 1}"):
            left.over(name, whole=True)
        assert left.seconds() == pytest.approx(10.0 * (4 - done) / 2)
    assert left.seconds() == 0.0


def test_a_run_counts_as_long_as_its_kind(clock):
    left = TimeLeft(runs(["fast", "slow"], 2), 1, clock=clock)
    for name, seconds in (("fast-0", 1.0), ("slow-0", 100.0)):
        clock.now += seconds
        left.over(name, whole=True)
    assert left.seconds() == pytest.approx(101.0)
    clock.now += 1.0
    left.over("fast-1", whole=True)
    clock.now += 60.0
    assert left.seconds() == pytest.approx(40.0)


def test_an_unknown_kind_that_takes_long_is_not_guessed(clock):
    left = TimeLeft(runs(["fast", "slow"], 2), 1, clock=clock)
    clock.now += 1.0
    left.over("fast-0", whole=True)
    assert left.seconds() == pytest.approx(3.0)
    clock.now += 2.0
    assert left.seconds() is None


def test_failed_and_resumed_runs_are_no_measure(clock):
    left = TimeLeft(runs("a", 3), 1, clock=clock)
    clock.now += 0.1
    left.over("a-0", whole=False)
    assert left.seconds() is None


def test_runs_reported_out_of_order_are_over(clock):
    left = TimeLeft(runs("a", 2), 1, clock=clock)
    left.over("a-1", whole=True)
    clock.now += 5.0
    left.over("a-0", whole=True)
    assert left.seconds() == 0.0
