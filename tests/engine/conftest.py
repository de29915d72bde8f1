"""What the tests of engines with several processes share."""

import contextlib
import time
import uuid

import psutil
import pytest


@pytest.fixture
def left_over(monkeypatch):
    """What is still running of the processes that the test started, wherever they hang now.

    Known by a mark in their environment: other tests may run Flower and Ray at the same time.
    """
    monkeypatch.setenv("FEDLAB_TEST", mark := uuid.uuid4().hex)
    seen = set()

    def look(patience=0.0):
        """The living, after at most so many seconds in which they may end by themselves."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("FEDLAB_TEST") == mark:
                    # Some of Ray's lose their environment to a title, and are known by descent.
                    seen.update([process, *process.children(recursive=True)])
        deadline = time.monotonic() + patience
        while (alive := {each for each in seen if _lives(each)}) and time.monotonic() < deadline:
            time.sleep(0.2)
        return alive

    return look


def _lives(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
