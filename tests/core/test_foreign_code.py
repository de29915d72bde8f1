"""Foreign code cannot end the process, hang it, or hide a signal from it."""

import os
import signal
import threading
import time

import pytest

from fedlab.core.foreign_code import ForeignCodeFailed, call_foreign


class Mute(Exception):
    """An exception that cannot even be printed."""

    def __str__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit"),
        (RecursionError("deep"), "RecursionError: deep"),
        (Mute(), "Mute"),
    ],
)
def test_whatever_is_raised_becomes_one_error(error, words):
    def fail():
        raise error

    with pytest.raises(ForeignCodeFailed, match=words):
        call_foreign(fail, seconds=5)


def spin():
    while True:
        pass


def swallow():
    while True:
        try:
            time.sleep(60)
        except Exception:
            continue


@pytest.mark.parametrize(
    "hang",
    [
        spin,
        swallow,
        lambda: time.sleep(60),
        lambda: threading.Event().wait(),
        lambda: os.read(os.pipe()[0], 1),
    ],
)
def test_a_hang_ends_after_its_time(hang):
    started = time.monotonic()
    with pytest.raises(ForeignCodeFailed, match=r"longer than 0\.1 seconds"):
        call_foreign(hang, seconds=0.1)
    assert time.monotonic() - started < 5


def test_python_code_in_a_thread_is_interrupted():
    ended = []

    def run():
        try:
            call_foreign(spin, seconds=0.1)
        except ForeignCodeFailed as error:
            ended.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(timeout=10)
    assert ended == ["it took longer than 0.1 seconds"]


@pytest.fixture
def interruptible():
    """Let an interrupt raise: Python ignores it where its parent did, as for background jobs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("hidden", [False, True])
def test_an_interrupt_of_the_user_is_passed_on(hidden, interruptible):
    def interrupted():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except BaseException:
            if not hidden:
                raise

    with pytest.raises(KeyboardInterrupt):
        call_foreign(interrupted, seconds=None)


def test_handlers_of_signals_are_restored():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGURG)
    before = [signal.getsignal(number) for number in numbers]
    assert call_foreign(lambda: call_foreign(lambda: 7, seconds=1), seconds=1) == 7
    assert [signal.getsignal(number) for number in numbers] == before


def test_calls_share_one_watcher():
    call_foreign(lambda: None, seconds=60)
    before = threading.active_count()
    for _ in range(20):
        call_foreign(lambda: call_foreign(lambda: None, seconds=50), seconds=60)
    assert threading.active_count() == before


def test_an_inner_call_may_take_less_time_than_the_outer_one():
    def outer():
        with pytest.raises(ForeignCodeFailed, match=r"longer than 0\.2 seconds"):
            call_foreign(lambda: time.sleep(30), seconds=0.2)
        return "went on"

    assert call_foreign(outer, seconds=30) == "went on"


def test_a_shorter_limit_is_noticed_behind_a_longer_one():
    call_foreign(lambda: None, seconds=1000)
    with pytest.raises(ForeignCodeFailed, match="longer than"):
        call_foreign(lambda: time.sleep(30), seconds=0.2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_limits_too():
    call_foreign(lambda: None, seconds=60)
    child = os.fork()
    if child == 0:
        try:
            call_foreign(lambda: time.sleep(30), seconds=0.2)
        except ForeignCodeFailed:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
