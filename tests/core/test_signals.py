"""A signal that ends a process unwinds the block, and only the block."""

import os
import signal
import threading

import pytest

from fedlab.core.errors import RunFailed
from fedlab.core.signals import raise_on_signals


@pytest.fixture
def arrived():
    """Signals that arrive outside of the block."""
    found, names = [], (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda n, _: found.append(n)) for number in names}
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_unwinds_the_block_and_only_it(arrived, name):
    number = signal.Signals[name]
    with pytest.raises(RunFailed, match=f"ended by {name}"), raise_on_signals():
        os.kill(os.getpid(), number)
    assert arrived == []
    os.kill(os.getpid(), number)
    assert arrived == [number]  # the handler of before is back


def test_a_signal_that_is_ignored_stays_so(arrived):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with raise_on_signals():
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_signals_are_kept_outside_the_main_thread(arrived):
    def run():
        with raise_on_signals():
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert arrived == [signal.SIGTERM]
