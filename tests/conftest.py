"""What tests of commands share."""

import sys

import pytest

from fedlab.cli import app as cli


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
