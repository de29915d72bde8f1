"""The Ray engine gives the bits of the in-process one, on one machine and on several."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import ray
import torch
from ray.cluster_utils import Cluster

from fedlab import BadInput, Federation, RunFailed, Scenario
from fedlab.engine import workers
from fedlab.engine.ray_cluster import connect
from fedlab.results.checkpoint import Checkpoint
from fedlab.results.folder import RunFolder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("ray"),
    # Ray does not wait for the processes that it ends; the tests do.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ON_RAY = {"name": "ray", "device": "cpu", "workers": 2}


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
        reconstructions = [{ clients = "0", rounds = "1", iterations = 20, power = false }]
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


def assert_equal_bits(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.fixture(scope="module")
def here():
    """Weights of a run in this process."""
    federation = Federation(scenario())
    federation.run()
    return federation.state


def test_ray_and_in_process_end_in_the_same_bits(tmp_path, left_over):
    parts = {"train": 800, "test": 100, "clients": 8, "partition": "dirichlet", "alpha": 1.0}
    both = scenario(
        data=parts,
        defenses=[*scenario().model_dump()["defenses"], *ACCOUNTED],
        reconstructions=[{"clients": "0", "rounds": "1", "iterations": 20}],
    )
    federation = Federation(both, out=tmp_path / "here")
    federation.run()
    running = []
    on_ray = Federation(
        both.changed(engine=ON_RAY),
        out=tmp_path / "ray",
        on_round=lambda _: running.append(len(left_over())),
    )
    on_ray.run()
    assert_equal_bits(federation.state, on_ray.state)
    for table in ("ledger.csv", "clients.csv", "spending.jsonl"):
        assert (tmp_path / "here" / table).read_text() == (tmp_path / "ray" / table).read_text()
    for client in (4, 5):
        assert on_ray.ledger.protected(client) == pytest.approx(4.0, rel=3e-3)
    assert (tmp_path / "ray" / "reconstructions" / "round-0001.png").is_file()
    assert min(running) > 5  # two processes of clients, and what Ray starts
    assert not left_over(patience=30)
    assert not ray.is_initialized()


@pytest.fixture
def two_nodes(left_over):
    """Address of a cluster of two nodes with one CPU each."""
    cluster = Cluster(initialize_head=True, connect=False, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    yield cluster.address
    cluster.shutdown()
    assert not left_over(patience=30)


def test_all_nodes_of_a_cluster_run_clients(tmp_path, two_nodes, here):
    engine = {"name": "ray", "device": "cpu", "address": two_nodes}
    spread = Federation(scenario(engine=engine), out=tmp_path / "run")
    spread.wait_for_workers()
    busy = spread._workers
    assert (busy.count, len(busy.nodes), len(busy.processes)) == (2, 2, 2)
    spread.run()
    assert_equal_bits(here, spread.state)
    with pytest.raises(BadInput, match="no node of the Ray cluster has 2 CPUs"):
        Federation(scenario(engine=engine | {"threads": 2}))


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
    (tmp_path / "broken" / "scenario.toml").write_text(scenario(data=data, engine=ON_RAY).to_toml())
    resumed = Federation.resume(tmp_path / "broken")
    resumed.run()
    assert_equal_bits(whole.state, resumed.state)


@pytest.fixture
def endless(tmp_path):
    """A command on Ray in its first rounds, and the folder in which it leaves temporary files."""
    file, temporary = tmp_path / "scenario.toml", Path(tempfile.mkdtemp(prefix="fed"))
    file.write_text(scenario(rounds=1000, engine=ON_RAY).to_toml())
    command = [sys.executable, "-m", "fedlab", "run", str(file), "--out", str(tmp_path / "run")]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(temporary)},
    ) as process:
        try:
            deadline = time.monotonic() + 200
            while not (tmp_path / "run/checkpoints/last.safetensors").is_file():
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.2)
            yield process, temporary
        finally:
            process.kill()
            shutil.rmtree(temporary, ignore_errors=True)


def test_a_terminated_run_ends_its_processes(tmp_path, left_over, endless):
    process, temporary = endless
    assert len(left_over()) > 5
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (1, "fedlab: the run was ended by SIGTERM\n")
    assert not left_over(patience=30)
    assert not list(temporary.glob("fedlab-*"))  # PyTorch has a folder of its own
    assert last(tmp_path / "run").round >= 1


def test_a_killed_run_ends_its_processes(left_over, endless):
    process, _ = endless
    assert len(left_over()) > 5
    process.kill()
    assert not left_over(patience=30)  # some of Ray's notice it after 15 seconds


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
        output = done.stdout + done.stderr
        assert last(tmp_path / "run").round == 1, output[-4000:]
        (superlink,) = re.findall(r"to end it: kill (\d+)", output)
        left = left_over()
        assert left
        psutil.Process(int(superlink)).terminate()  # as `kill` does
        assert not left_over(patience=30)
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
        while self.how == "resist":
            try:
                while True:
                    pass
            except BaseException:
                pass
        sys.exit(3)
"""


def test_a_client_that_exits_or_hangs_fails_alone(tmp_path, monkeypatch, left_over):
    (tmp_path / "hostile_clients.py").write_text(HOSTILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(workers, "GRACE", 1.0)
    hostile = [
        {"name": "hostile_clients:Hostile", "how": how, "clients": "1", "rounds": str(round)}
        for round, how in enumerate(["exit", "hang", "resist"], start=1)
    ]
    data = {"source": "digits", "train": 80, "test": 20, "clients": 4}
    server = {"reply_timeout": 15.0}
    run = scenario(rounds=4, data=data, defenses=hostile, server=server, engine=ON_RAY)
    with contextlib.suppress(RunFailed):  # which names the plug-in, after the last round
        Federation(run, out=tmp_path / "run").run()
    clients = RunFolder.open(tmp_path / "run").table("clients")
    failed = clients[clients["status"] != "ok"]
    assert {(1, 1), (2, 1), (3, 1)} <= set(zip(failed["round"], failed["client"], strict=True))
    assert set(failed["client"]) == {1}
    assert last(tmp_path / "run").round == 4
    assert not left_over(patience=30)


def test_a_killed_process_is_replaced(here):
    with_loss = Federation(scenario(engine=ON_RAY))
    with_loss.step()
    psutil.Process(with_loss._workers.processes[0]).kill()
    with_loss.run()
    assert_equal_bits(here, with_loss.state)


def test_federations_share_one_ray(tmp_path):
    one, other = (Federation(scenario(rounds=2, engine=ON_RAY)) for _ in range(2))
    one.step()
    other.step()
    one.run()
    assert ray.is_initialized()
    other.run()
    assert_equal_bits(one.state, other.state)
    assert not ray.is_initialized()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "http://nowhere"])
def test_no_cluster_at_an_address_is_named(address):
    with pytest.raises(BadInput, match="no Ray cluster answers at") as refused:
        connect(Scenario(), address, 1)
    assert "\n" not in str(refused.value)
