"""One process at a time writes to a run folder."""

import subprocess
import sys

import pytest

from fedlab import BadInput, Federation
from fedlab.results.folder import LOCK, RunFolder
from tests.federations import small

HOLD = """
import sys
import filelock

lock = filelock.FileLock(sys.argv[1])
lock.acquire()
print(1, flush=True)
input()
"""
TINY = {"name": "mlp", "width": 4}


@pytest.fixture
def hold():
    """Lets another process lock a folder until the test ends, or until it is killed."""
    started = []

    def lock(folder):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        other = subprocess.Popen([sys.executable, "-c", HOLD, str(folder / LOCK)], **pipes)
        started.append(other)
        assert other.stdout.readline() == b"1\n"
        return other

    yield lock
    for other in started:
        other.kill()
        other.communicate()


def test_second_process_is_refused_and_changes_nothing(tmp_path, hold):
    run = tmp_path / "run"
    Federation(small(model=TINY), out=run).step()
    other = hold(run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    federation = Federation.resume(run)
    for write in (federation.step, lambda: federation.toggle("pruning", on=True)):
        with pytest.raises(BadInput, match="another process is writing"):
            write()
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    other.kill()
    other.communicate()
    assert federation.step().model.round == 2


def test_new_run_in_a_locked_folder_is_refused(tmp_path, hold):
    hold(tmp_path)
    with pytest.raises(BadInput, match="another process is writing"):
        RunFolder.create(tmp_path, small())


def test_finished_run_is_unlocked(tmp_path, hold):
    federation = Federation(small(rounds=1, model=TINY), out=tmp_path / "run")
    federation.run()
    hold(tmp_path / "run")


@pytest.mark.parametrize("left", ["scenario.toml.partial", "identity.json", LOCK])
def test_folder_of_a_run_that_never_began_is_used(tmp_path, left):
    (tmp_path / left).write_text("x")
    with pytest.raises(BadInput, match="ended before it began: start it anew"):
        RunFolder.open(tmp_path)
    run = RunFolder.create(tmp_path, small())
    assert run.scenario == small()
    assert not list(tmp_path.glob("*.partial"))
