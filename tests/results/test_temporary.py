"""Temporary folders of killed processes are deleted by the next one."""

import subprocess
import sys
import tempfile

import pytest

from fedlab.results.temporary import temporary_folder

KILLED = """
import os, signal, sys, tempfile
tempfile.tempdir = sys.argv[1]
from fedlab.results.temporary import temporary_folder
path, _ = temporary_folder()
(path / "file").write_text("x")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_deleted_when_it_is_discarded(place):
    path, discard = temporary_folder()
    (path / "file").write_text("x")
    discard()
    assert list(place.iterdir()) == []


def test_folders_of_the_dead_go_and_of_the_living_stay(place):
    mine, discard = temporary_folder()
    subprocess.run([sys.executable, "-c", KILLED, str(place)], check=False)
    assert len([each for each in place.iterdir() if each.is_dir()]) == 2
    other, discard_other = temporary_folder()
    assert {each for each in place.iterdir() if each.is_dir()} == {mine, other}
    discard(), discard_other()
