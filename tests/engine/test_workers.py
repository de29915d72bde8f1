"""Clients and attacks shared among processes have the bits of one process."""

import dataclasses
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import psutil
import pytest
import torch

from fedlab import BadInput, Federation
from fedlab.defenses import Defense
from fedlab.results.temporary import temporary_folder
from fedlab.simulation import workers
from tests.federations import small

pytestmark = pytest.mark.xdist_group("workers")

VARIED = {
    "data": {"source": "digits", "train": 120, "test": 300, "clients": 6},
    "model": {"name": "mlp", "width": 4},
    "training": {"batch_size": 4, "epochs": 2},
    "roles": [
        {"role": "leaking", "clients": "0", "batch_size": 2},
        {"role": "poisoning", "clients": "5", "update": {"attack": "little-is-enough"}},
    ],
    "defenses": [
        {"name": "dp-sgd", "clients": "1", "clipping": "adaptive"},
        {"name": "dp-instahide", "k": 2, "clients": "2"},
    ],
    "reconstructions": [{"clients": "0", "iterations": 20}],
}


def run(out, workers, *, rounds=3, each=lambda _: None):
    """Run a scenario in which clients do all kinds of things."""
    engine = {"device": "cpu", "workers": workers}
    federation = Federation(small(rounds=rounds, engine=engine, **VARIED), out=out)
    while federation.round < rounds:
        each(federation)
        federation.step()
    return facts(federation)


def facts(federation):
    """What must not depend on the number of processes."""
    folder = federation.folder
    weights = hashlib.sha256()
    for value in federation.state.values():
        weights.update(value.numpy().tobytes())
    scores = folder.table("leakage").drop(columns=["seconds", "tuning_seconds"])
    tables = [(folder.path / f"{name}.csv").read_text() for name in ("clients", "ledger")]
    rounds = [dataclasses.replace(row, seconds=0.0, cpu_seconds=0.0) for row in folder.rounds()]
    return (
        weights.hexdigest(),
        repr(rounds),
        scores.to_csv(),
        *tables,
        (folder.path / "spending.jsonl").read_text(),
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return run(tmp_path_factory.mktemp("alone"), 1)


def test_the_bits_are_those_of_one_process(tmp_path, alone):
    assert run(tmp_path / "run", 4, each=Federation.wait_for_workers) == alone


def test_a_killed_worker_is_replaced(tmp_path, alone):
    seen = []

    def kill(federation):
        federation.wait_for_workers()
        seen.append(set(federation._workers.processes))
        if federation.round == 1:
            for process in seen[-1]:
                os.kill(process, signal.SIGKILL)

    assert run(tmp_path / "run", 2, each=kill) == alone
    assert seen[0] == seen[1]
    assert not seen[1] & seen[2]


def test_a_run_goes_on_with_another_number_of_processes(tmp_path, alone):
    engine = {"device": "cpu", "workers": 2}
    first = Federation(small(rounds=3, engine=engine, **VARIED), out=tmp_path / "run")
    first.wait_for_workers()
    first.step()
    first._workers.close()
    first.folder.release()
    file = tmp_path / "run" / "scenario.toml"
    file.write_text(file.read_text().replace("workers = 2", "workers = 1"))
    again = Federation.resume(tmp_path / "run")
    assert again.scenario.engine.workers == 1
    again.run()
    assert facts(again) == alone


def test_processes_end_with_the_run(tmp_path):
    run(tmp_path / "run", 2, rounds=1, each=Federation.wait_for_workers)
    commands = [" ".join(each.cmdline()) for each in psutil.Process().children(recursive=True)]
    assert not [each for each in commands if "loky" in each and "resource_tracker" not in each]


SCRIPT = """
from fedlab import Federation, Scenario
run = Federation(Scenario(rounds=1000, data={"train": 80, "test": 20, "clients": 4},
                          model={"name": "mlp", "width": 4}, engine={"workers": 2}), out="run")
run.wait_for_workers()
print("ready", flush=True)
run.run()
"""


@pytest.mark.slow
def test_nothing_is_left_of_a_killed_run(tmp_path, monkeypatch):
    (tmp_path / "script.py").write_text(SCRIPT)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = os.environ | {"TMPDIR": str(temporary)}
    with subprocess.Popen(
        [sys.executable, "script.py"], cwd=tmp_path, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        family = psutil.Process(process.pid).children(recursive=True)
        assert family
        time.sleep(0.5)
        process.kill()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    _, discard = temporary_folder()  # what a killed run left goes when another one starts
    discard()
    assert not list(temporary.glob("fedlab-run-*"))


ENDS = """
from fedlab import Federation, Scenario

data = {"train": 200, "clients": 4}
federation = Federation(Scenario(rounds=2, data=data, engine={"workers": 2}))
federation.step()
federation.wait_for_workers()
print("ready")
"""
"""A script that keeps a federation in a variable to its last line, before its last round."""


def test_a_script_that_keeps_a_federation_ends(tmp_path):
    (tmp_path / "script.py").write_text(ENDS)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, timeout=100
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"ready\n", b"")


@pytest.mark.parametrize(
    ("changes", "count"), [({}, 4), ({"threads": 2}, 2), ({"workers": 5}, 5), ({"workers": 1}, 1)]
)
def test_auto_takes_the_cores(monkeypatch, changes, count):
    monkeypatch.setattr(workers, "cores", lambda: 4)
    monkeypatch.setattr(workers, "room_for_processes", lambda: 64)
    scenario = small(engine={"device": "cpu", **changes})
    assert workers.workers_of(scenario, torch.device("cpu")).count == count


@pytest.mark.parametrize(
    ("why", "count"), [("memory", 3), ("many", workers.MOST), ("worker", 1), ("gpu", 1)]
)
def test_auto_takes_less_where_it_must(monkeypatch, why, count):
    monkeypatch.setattr(workers, "cores", lambda: 1 if why == "worker" else 100)
    monkeypatch.setattr(workers, "room_for_processes", lambda: 3 if why == "memory" else 64)
    device = torch.device("cuda" if why == "gpu" else "cpu")
    assert workers.workers_of(small(engine={"device": "cpu"}), device).count == count


class Draws(Defense):
    """Draws from global generators, as a stranger's code may."""

    keeps_guarantees = True

    def wrap(self, pipeline, context):
        factor = 1 + float(torch.rand(())) + np.random.rand() + random.random()
        return pipeline.releasing_each(lambda tensor: tensor * factor)


def test_global_random_numbers_are_those_of_one_process(tmp_path):
    def drawn(count):
        engine = {"device": "cpu", "workers": count}
        defenses = [{"name": "tests.engine.test_workers:Draws"}]
        scenario = small(rounds=2, engine=engine, defenses=defenses)
        federation = Federation(scenario, out=tmp_path / str(count))
        federation.wait_for_workers()
        federation.run()
        return federation.state

    one, other = drawn(1), drawn(2)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


class Own(Defense):
    """A defense of this test."""

    keeps_guarantees = True

    def wrap(self, pipeline, context):
        return pipeline


def test_several_processes_need_plug_ins_that_they_can_import(monkeypatch):
    monkeypatch.setattr(Own, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "Own", Own, raising=False)
    scenario = small(defenses=[{"name": "__main__:Own"}], engine={"workers": 2, "device": "cpu"})
    with pytest.raises(BadInput, match=r"engine\.workers is 2, but __main__:Own is defined in"):
        Federation(scenario)
    with pytest.raises(BadInput, match=r"__main__:Own is defined .* Ray cannot find it: put it"):
        Federation(scenario.changed(engine={"name": "ray", "device": "cpu"}))
