"""Calls shared among processes: the results of one process, whatever happens to the others."""

import os
import threading
import time
from functools import partial

import pytest

from fedlab.core.errors import RunFailed
from fedlab.core.workers import Workers

HERE = os.getpid()


@pytest.fixture(scope="module")
def workers():
    both = Workers(2)
    yield both
    both.close()


@pytest.fixture
def ready(workers):
    """Workers of which the other process has started."""
    workers.ready()
    return workers


def slowly(number):
    time.sleep(0.05)
    return number, os.getpid()


def squared(number):
    time.sleep(0.01)
    return number * number


def fails_at_three(number):
    if number >= 3:
        raise ValueError(f"no {number}")
    return number


def fails_elsewhere(number):
    time.sleep(0.05)
    if os.getpid() != number:
        raise ValueError("not here")
    return number


def dies_elsewhere(number):
    if os.getpid() != number:
        os._exit(1)
    time.sleep(0.2)
    return number


def dies_once(item):
    file, parent = item
    time.sleep(0.2)
    if os.getpid() != parent and not file.exists():
        file.touch()
        os._exit(1)
    return item


def test_results_are_in_order(ready):
    assert ready.map(squared, list(range(50))) == [number * number for number in range(50)]


def test_both_processes_work(ready):
    found = ready.map(slowly, list(range(10)))
    assert [number for number, _ in found] == list(range(10))
    assert len({process for _, process in found}) == 2


def test_the_first_exception_in_order_is_raised(ready):
    with pytest.raises(ValueError, match="no 3"):
        ready.map(fails_at_three, [0, 1, 2, 3, 4, 5, 3])


def test_what_fails_elsewhere_runs_here(ready):
    assert ready.map(fails_elsewhere, [HERE] * 10) == [HERE] * 10


def test_what_cannot_be_pickled_runs_here(ready):
    lock = threading.Lock()
    assert ready.map(lambda each: time.sleep(0.05) or each is lock, [lock] * 10) == [True] * 10


def test_a_killed_process_is_replaced_and_its_item_repeated(ready, tmp_path):
    items = [(tmp_path / "died", HERE)] * 6
    assert ready.map(dies_once, items) == items
    assert (tmp_path / "died").exists()
    ready.ready()
    assert len({process for _, process in ready.map(slowly, list(range(10)))}) == 2


class Unpicklable(Exception):
    """An exception that cannot be read from a pickle."""

    def __init__(self, one, two):
        super().__init__("no sense")


def raises(kind):
    time.sleep(0.05)
    raise {"exit": SystemExit(3), "pickle": Unpicklable(1, 2)}[kind]


def test_any_exception_of_another_process_is_that_of_this_one(ready):
    with pytest.raises(Unpicklable, match="no sense"):
        ready.map(raises, ["pickle"] * 10)
    with pytest.raises(SystemExit):
        ready.map(raises, ["exit"] * 10)


def test_nothing_follows_a_failure(tmp_path):
    with pytest.raises(ValueError, match="no 3"):
        Workers(1).map(fails_at_three, [0, 3, tmp_path])


def test_an_item_that_always_kills_its_process_has_a_result_of_its_own(ready):
    found = ready.map(dies_elsewhere, [HERE] * 4, died=lambda _: "dead")
    assert set(found) == {HERE, "dead"}


def test_an_item_that_always_kills_its_process_is_a_sentence(ready):
    with pytest.raises(RunFailed, match=r"killed twice.* engine\.workers = 1"):
        ready.map(dies_elsewhere, [HERE] * 4)


def hangs_elsewhere(number):
    if os.getpid() != number:
        time.sleep(1000)
    time.sleep(0.3)
    return number


def test_a_process_that_takes_too_long_is_killed(ready):
    found = ready.map(hangs_elsewhere, [HERE] * 6, died=lambda _: "dead", seconds=0.5)
    assert set(found) == {HERE, "dead"}


def test_short_work_starts_no_process():
    patient = Workers(2, at_once=False)
    patient.map(squared, list(range(20)))
    assert patient.processes == ()


def test_one_worker_is_this_process():
    alone = Workers(1)
    assert {process for _, process in alone.map(slowly, list(range(3)))} == {HERE}
    assert alone.processes == ()


class Unspeakable(Exception):
    """An exception that has no text."""

    def __repr__(self):
        raise RuntimeError("no")

    __str__ = __repr__


def fails_only_elsewhere(item):
    kind, parent = item
    time.sleep(0.05)
    if os.getpid() != parent:
        raise {"end": EOFError, "mute": Unspeakable, "disk": OSError}[kind]()
    return kind


@pytest.mark.parametrize("kind", ["end", "mute", "disk"])
def test_whatever_a_call_raises_elsewhere_it_is_repeated_here(ready, kind):
    before = ready.processes
    assert ready.map(fails_only_elsewhere, [(kind, HERE)] * 8) == [kind] * 8
    assert ready.processes == before


def refuses():
    raise ValueError("no data here")


def needs_preparation(number):
    time.sleep(0.05)
    if os.getpid() != number:
        raise ValueError("not prepared")
    return number


def test_a_process_that_cannot_prepare_leaves_its_work_to_this_one():
    workers = Workers(2)
    workers.prepare = refuses
    workers.ready()
    assert workers.map(needs_preparation, [HERE] * 8) == [HERE] * 8
    workers.close()


def burn(seconds):
    started = time.process_time()
    while time.process_time() - started < seconds:
        pass
    return os.getpid()


def test_cpu_time_is_of_all_processes_also_after_their_end(ready):
    before = ready.cpu_seconds
    assert len(set(ready.map(burn, [0.2] * 6))) == 2
    spent = ready.cpu_seconds - before
    assert spent >= 1.1
    ready.close()
    assert ready.cpu_seconds - before >= spent


def test_a_process_that_never_starts_is_a_sentence():
    workers = Workers(2)
    workers.prepare = partial(os._exit, 1)
    with pytest.raises(RunFailed, match=r"engine\.workers starts was killed"):
        workers.ready()
