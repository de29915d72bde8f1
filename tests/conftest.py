"""Settings of the whole suite, and what tests of commands share."""

import os
import sys

import pytest

from fedlab.cli import app as cli


def pytest_configure():
    """Use one thread in each test process and what it starts: as many processes run as cores."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


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
