"""Settings of the whole suite, and what tests of commands share."""

import contextlib
import os
import sys
import time
import uuid

import psutil
import pytest

from fedlab.cli import app as cli
from fedlab.simulation import workers


def pytest_configure():
    """Use one thread in each test process and what it starts: as many processes run as cores."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Keep the quick tests of a file in one process, so that what they share is made once."""
    for item in items:
        own = {mark.name for mark in item.iter_markers()}
        if own.isdisjoint({"xdist_group", "slow", "long"}):
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


@pytest.fixture(autouse=True, scope="session")
def one_worker():
    """Runs within a test process leave the other cores to the other test processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "cores", lambda: 1)
        yield


@pytest.fixture(autouse=True, scope="session")
def no_waiting_for_the_disk():
    """Files are written without ``fsync``, which matters only when the power fails."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture
def fedlab(monkeypatch, capsys, tmp_path):
    """Runs a command; returns its exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["fedlab", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return code, out, err

    return call


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
