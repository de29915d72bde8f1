"""A run that is killed at any moment resumes: to the same bits, and with no less in its ledger."""

import os
import random
import signal
import time

import pytest
import torch

from fedlab import Federation
from fedlab.results.folder import RunFolder
from tests.federations import finished, small

KILLS = int(os.environ.get("FEDLAB_KILLS", "2"))
"""Number of moments at which each run is killed; set FEDLAB_KILLS for more."""

TINY = {
    "rounds": 3,
    "data": {"train": 40, "test": 20, "clients": 4},
    "model": {"name": "mlp", "width": 4},
    "training": {"batch_size": 4},
    "server": {"strategy": "FedAvgM", "options": {"server_momentum": 0.5}},
}

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


def kill_after(scenario, path, seconds):
    """Start the run in a process of its own, and kill it so long after its folder exists."""
    pid = os.fork()
    if not pid:
        try:
            Federation(scenario, out=path).run()
        finally:
            os._exit(0)
    while not RunFolder(path).holds_a_run:
        time.sleep(0.001)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.parametrize("private", [False, True])
def test_a_run_killed_at_any_moment_resumes(tmp_path, private):
    scenario = small(**TINY, defenses=[{"name": "dp-sgd"}] if private else [])
    started = time.monotonic()
    whole = finished(scenario, out=tmp_path / "whole")
    duration, moments = time.monotonic() - started, random.Random(7)
    for number in range(KILLS):
        path = tmp_path / str(number)
        kill_after(scenario, path, moments.uniform(0, duration))
        before = RunFolder(path).spending()
        resumed = Federation.resume(path)
        if resumed.round < scenario.rounds:
            resumed.run()
        for client, spent in before.items():
            assert resumed.ledger.histories[client][: len(spent)] == spent
            assert resumed.ledger.total(client) >= whole.ledger.total(client)
        rounds = [row.round for row in resumed.folder.rounds()]
        assert rounds == [0, 1, 2, 3]
        if not private:
            assert all(torch.equal(value, resumed.state[n]) for n, value in whole.state.items())
