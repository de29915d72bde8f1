"""Settings of the whole suite, and what tests of commands share."""

import os
import sys

import pytest

from fedlab.cli import app as cli
from fedlab.simulation import workers


def pytest_configure():
    """Use one thread in each test process and what it starts: as many processes run as cores."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True, scope="session")
def one_worker():
    """Runs within a test process leave the other cores to the other test processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "cores", lambda: 1)
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
