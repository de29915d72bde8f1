"""Nothing that was started outlives the process that started it, however that one ends."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fedlab.engine import guardian

FAMILY = """
import os, subprocess, sys, time
child = "import time; time.sleep(600)"
for own_session in (False, True):
    started = subprocess.Popen([sys.executable, "-c", child], start_new_session=own_session)
    print(started.pid, flush=True)
print(os.getpid(), flush=True)
if os.fork():  # the grandchildren of a process that ends are orphans
    time.sleep(float(sys.argv[1]))
else:
    os.setsid()
    print(subprocess.Popen([sys.executable, "-c", child], start_new_session=True).pid, flush=True)
"""
"""Starts processes in its own session, in another one, and as orphans; prints their ids."""

PARENT = """
import subprocess, sys
script, folder, *command = sys.argv[1:]
guardian = subprocess.Popen([sys.executable, "-P", script, folder, *command], stdin=subprocess.PIPE)
print(guardian.pid, flush=True)
guardian.wait()
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="orphans are found by Linux")


def lives(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def wait_for_end(pids, seconds=10):
    deadline = time.monotonic() + seconds
    while (alive := [pid for pid in pids if lives(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return alive


def ids_of(stream, count):
    return [int(stream.readline()) for _ in range(count)]


@pytest.mark.parametrize("victim", ["parent", "guardian's command"])
def test_a_kill_ends_the_whole_family(tmp_path, victim):
    (folder := tmp_path / "home").mkdir()
    (folder / "file").write_text("x")
    family = [sys.executable, "-c", FAMILY, "600"]
    command = [sys.executable, "-c", PARENT, guardian.__file__, str(folder), *family]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        guard, *pids = ids_of(parent.stdout, 5)
        assert all(map(lives, pids))
        killed = parent.pid if victim == "parent" else pids[2]
        os.kill(killed, signal.SIGKILL)
        assert wait_for_end([guard, *pids]) == []
        assert folder.exists() is (victim != "parent")


def test_the_command_ends_after_a_kill_of_the_guardian(tmp_path):
    command = [sys.executable, "-P", guardian.__file__, str(tmp_path), sys.executable, "-c"]
    waiting = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    with subprocess.Popen(
        [*command, waiting], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        pids = ids_of(process.stdout, 1)
        process.kill()
        assert wait_for_end(pids) == []


def test_a_command_that_ends_keeps_its_exit_status(tmp_path):
    command = [sys.executable, "-P", guardian.__file__, str(tmp_path), sys.executable, "-c"]
    with subprocess.Popen([*command, "raise SystemExit(7)"], stdin=subprocess.PIPE) as process:
        assert process.wait(timeout=20) == 7
    assert tmp_path.is_dir()


def test_an_orderly_end_terminates_first(tmp_path):
    polite = "import signal as s, sys; s.signal(15, lambda *_: sys.exit(3)); print(); s.pause()"
    command = [sys.executable, "-P", guardian.__file__, str(tmp_path), sys.executable, "-c", polite]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.communicate(guardian.END, timeout=20)
        assert process.returncode == 3
    assert Path(tmp_path).is_dir()


@pytest.mark.parametrize("killed", [False, True])
def test_a_last_command_follows_every_end(tmp_path, killed):
    (folder := tmp_path / "home").mkdir()
    touch = f"import pathlib; pathlib.Path({str(tmp_path / 'stopped')!r}).touch()"
    file = folder / guardian.AFTERWARDS
    file.write_text(json.dumps([sys.executable, "-c", touch]))
    command = [sys.executable, "-P", guardian.__file__, str(folder), "sleep", "600"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        process.communicate(b"" if killed else guardian.END, timeout=20)
    assert (tmp_path / "stopped").exists()
    assert folder.exists() is not killed
