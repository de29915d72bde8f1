"""The Ray engine gives the bits of the in-process one, and tells failure from success."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch

from fedlab import BadInput, Federation, RunFailed, Scenario
from fedlab.engine import ray
from fedlab.engine.ray import run_on_ray
from fedlab.results.checkpoint import Checkpoint
from fedlab.results.folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("ray")]


def scenario(**tables):
    return Scenario.parse(
        """
        name = "both-engines"
        rounds = 3
        data = { train = 400, test = 100, clients = 4 }
        model = { width = 8 }
        training = { lr = 0.05, momentum = 0.9 }
        server = { strategy = "FedAvgM", options = { server_momentum = 0.5 } }
        engine = { device = "cpu" }
        reconstructions = [{ clients = "0", rounds = "1", iterations = 20 }]
        [[roles]]
        role = "leaking"
        clients = "0"
        [[roles]]
        role = "poisoning"
        clients = "3"
        [[defenses]]
        name = "dp-sgd"
        clients = "1"
        [[defenses]]
        name = "dp-instahide"
        rounds = "2"
        clients = "0,2"
        [[defenses]]
        name = "clip-noise"
        rounds = "3"
        clients = "2"
        [[defenses]]
        name = "leakage-gate"
        clients = "0"
        rounds = "3"
        iterations = 5
        """
    ).changed(**tables)


ACCOUNTED = [
    {"name": "dp-sgd", "target_epsilon": 4.0, "clipping": "adaptive", "clients": "4-5"},
    {"name": "dp-sgd", "clients": "6", "rounds": "2-", "per_example": "ew", "memory": 0.05},
    {"name": "dp-sgd", "clients": "7", "clipping": "per-layer", "budget": 6.0},
]
"""Defenses whose settings are solved, adapt or end: both engines must keep the same account."""


def last(folder: Path) -> Checkpoint:
    return Checkpoint.load(folder / "checkpoints" / "last.safetensors")


def test_ray_and_in_process_end_in_the_same_bits(tmp_path, left_over):
    lines, running = [], []

    def on_line(line):
        lines.append(line)
        running.append(len(left_over()))

    parts = {"train": 800, "test": 100, "clients": 8, "partition": "dirichlet", "alpha": 1.0}
    both = scenario(data=parts, defenses=[*scenario().model_dump()["defenses"], *ACCOUNTED])
    federation = Federation(both, out=tmp_path / "here")
    federation.run()
    run_on_ray(both, tmp_path / "ray", on_line=on_line)
    one, other = last(tmp_path / "here"), last(tmp_path / "ray")
    assert other.round == 3
    assert one.state.keys() == other.state.keys()
    for name, value in one.state.items():
        assert torch.equal(value, other.state[name]), name
    for table in ("ledger.csv", "clients.csv", "spending.jsonl", "scenario.toml"):
        assert (tmp_path / "here" / table).read_text() == (tmp_path / "ray" / table).read_text()
    for client in (4, 5):
        assert federation.ledger.protected(client) == pytest.approx(4.0, rel=3e-3)
    assert (tmp_path / "ray" / "reconstructions" / "round-0001.png").is_file()
    assert [line.split(":")[0] for line in lines] == ["round 1", "round 2", "round 3"]
    assert max(running) > 5  # the SuperLink, its command, the simulation, and what Ray starts
    assert not left_over(patience=30)


OWN_IMAGES = """
from fedlab.data import load

def some_digits():
    return load("digits").limited(400, 100, seed=5)
"""


def test_a_run_of_the_other_engine_is_resumed(tmp_path, monkeypatch):
    (tmp_path / "own_images.py").write_text(OWN_IMAGES)
    monkeypatch.chdir(tmp_path)
    data = {"source": "factory", "factory": "own_images:some_digits", "clients": 4}
    whole = Federation(scenario(data=data), out=tmp_path / "whole")
    whole.run()
    Federation(scenario(data=data), out=tmp_path / "broken").step()
    run_on_ray(scenario(data=data), tmp_path / "broken", on_line=lambda _: None, resume=True)
    one, other = last(tmp_path / "whole"), last(tmp_path / "broken")
    assert all(torch.equal(value, other.state[name]) for name, value in one.state.items())


def test_a_terminated_run_ends_its_processes(tmp_path, left_over):
    file = tmp_path / "scenario.toml"
    endless = scenario(rounds=1000, engine={"name": "ray", "device": "cpu"})
    file.write_text(endless.to_toml())
    command = [sys.executable, "-m", "fedlab", "run", str(file), "--out", str(tmp_path / "run")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            deadline = time.monotonic() + 120
            while not (tmp_path / "run/checkpoints/last.safetensors").is_file():
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.2)
            assert left_over()
            superlink, *_ = psutil.Process(process.pid).children()
            home = Path(superlink.environ()["FLWR_HOME"])
            assert home.is_dir()
            process.terminate()
            time.sleep(1)
            process.terminate()  # who is impatient must not stop the tidying up
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, said) == (1, "fedlab: the run was ended by SIGTERM\n")
    assert not left_over(patience=30)
    assert not home.exists()
    assert Federation.resume(tmp_path / "run").round >= 1


@pytest.fixture
def signalled(tmp_path, monkeypatch):
    """Runs a scenario that sends this process a signal; what arrives outside of the run."""
    arrived = []
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    def call(number, folder):
        monkeypatch.setattr(ray, "_superlink", lambda *_: contextlib.nullcontext("127.0.0.1:1"))
        monkeypatch.setattr(ray, "flwr_run", lambda *_: os.kill(os.getpid(), number) or [])
        run_on_ray(scenario(), folder, on_line=lambda _: None)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, lambda number, _: arrived.append(number))
    yield call, arrived
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_unwinds_the_run_and_only_the_run(tmp_path, signalled, name):
    (call, arrived), number = signalled, signal.Signals[name]
    with pytest.raises(RunFailed, match=f"ended by {name}"):
        call(number, tmp_path / "run")
    assert not any((tmp_path / "temporary").iterdir())
    assert arrived == []
    os.kill(os.getpid(), number)
    assert arrived == [number]  # the handler of before is back


def test_a_signal_that_is_ignored_stays_so(tmp_path, signalled):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with pytest.raises(RunFailed, match="after round 0 of 3"):
        signalled[0](signal.SIGHUP, tmp_path / "run")


def test_signals_are_kept_outside_the_main_thread(tmp_path, signalled):
    (call, arrived), failures = signalled, []

    def run():
        try:
            call(signal.SIGTERM, tmp_path / "run")
        except RunFailed as error:
            failures.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert arrived == [signal.SIGTERM]
    assert "after round 0 of 3" in failures[0]


def test_an_impossible_run_is_named(tmp_path):
    too_few = scenario(data={"train": 3, "test": 10, "clients": 4})
    with pytest.raises(BadInput, match="4 clients cannot share 3 images"):
        run_on_ray(too_few, tmp_path / "ray", on_line=lambda _: None)


def test_flwr_run_works_from_the_repository(tmp_path, left_over):
    """``flwr run .`` as the README shows it, with the scenario named in the run config."""
    root = Path(__file__).resolve().parents[2]
    file = tmp_path / "scenario.toml"
    file.write_text(scenario(rounds=1, defenses=(), reconstructions=()).to_toml())
    home = tmp_path / "flwr"
    home.mkdir()
    scripts = Path(sys.executable).parent
    environment = os.environ | {
        "FLWR_HOME": str(home),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
    }
    command = [
        str(scripts / "flwr"),
        *("run", str(root), "--stream"),
        *("--run-config", f'scenario="{file}" out="{tmp_path / "run"}"'),
        *("--federation-config", "num-supernodes=4"),
    ]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=200
        )
        assert last(tmp_path / "run").round == 1, done.stdout[-2000:] + done.stderr[-2000:]
    finally:
        # `flwr run` leaves a SuperLink behind; only what this test started is ended.
        # It may not listen to the first signal while it is still ending a run.
        for end in (psutil.Process.terminate, psutil.Process.terminate, psutil.Process.kill):
            for process in left_over():
                with contextlib.suppress(psutil.NoSuchProcess):
                    end(process)
            left_over(patience=15)
    assert not left_over()


HOSTILE = """
import sys
from fedlab.defenses import Defense

class Hostile(Defense):
    "Does not come back."
    how: str
    keeps_guarantees = True

    def wrap(self, pipeline, context):
        while self.how == "hang":
            pass
        sys.exit(3)
"""


@pytest.mark.parametrize("how", ["exit", "hang"])
def test_a_client_that_exits_or_hangs_fails_alone(tmp_path, monkeypatch, left_over, how):
    (tmp_path / "hostile_clients.py").write_text(HOSTILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    hostile = {"name": "hostile_clients:Hostile", "how": how, "clients": "1", "rounds": "2"}
    data = {"source": "digits", "train": 80, "test": 20, "clients": 4}
    run = scenario(data=data, defenses=[hostile], server={"reply_timeout": 20.0})
    run_on_ray(run, tmp_path / "run", on_line=lambda _: None)
    clients = RunFolder.open(tmp_path / "run").table("clients")
    failed = clients[clients["status"] != "ok"]
    assert (2, 1) in set(zip(failed["round"], failed["client"], strict=True))
    assert set(failed["client"]) == {1}
    assert not left_over(patience=30)
