"""A process that is killed in the middle of a round: the ledger counts its replies."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fedlab import Federation
from fedlab.privacy.accountant import epsilon
from fedlab.privacy.accounts import CLIENT
from fedlab.server.captures import Capture
from tests.federations import small

ROOT = Path(__file__).resolve().parents[2]

KILLED = """
import os
import signal
import sys

from safetensors.torch import save_file

from fedlab import Federation
from fedlab.results.folder import RunFolder
from fedlab.server import rounds
from fedlab.server.aggregation import Aggregation

run, kept, place = sys.argv[1:]
read = rounds.collect_replies


def keep(*asked, **rest):
    found = read(*asked, **rest)
    sent = ((client, found.replies[client].payload.tensors.items()) for client in (1, 2))
    save_file({f"{client} {name}": t for client, tensors in sent for name, t in tensors}, kept)
    return found


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


rounds.collect_replies = keep
if place == "journal":
    RunFolder.note_spending = die
else:
    Aggregation.aggregate = die
Federation.resume(run).step()
"""
"""Keeps the replies of round 2 where only the test finds them, and dies before they are used."""

DP = {"name": "dp-sgd", "noise_multiplier": 1.0, "clients": "1"}
NOISY = {"name": "clip-noise", "noise_multiplier": 4.0, "clients": "2"}


def changes(tensors, before):
    return torch.cat([(tensor - before[name]).flatten() for name, tensor in tensors.items()])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "releases"),
    [
        ("aggregate", 3),
        # Not a byte of these replies outlives the server, and what is sent again is the same.
        ("journal", 2),
    ],
)
def test_replies_before_a_kill_are_accounted(tmp_path, place, releases):
    scenario = small(rounds=2, defenses=[DP, NOISY], captures={"keep": "all"})
    Federation(scenario, out=tmp_path / "run").step()
    kept = tmp_path / "kept.safetensors"
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path / "run", kept, place], cwd=ROOT, timeout=120
    )
    assert ended.returncode == -signal.SIGKILL
    resumed = Federation.resume(tmp_path / "run")
    assert resumed.round == 1
    resumed.run()

    steps = resumed.ledger.histories[1][0].steps
    rate = resumed.ledger.histories[1][0].sample_rate
    of_examples = epsilon(((1.0, rate, releases * steps),), accountant="rdp", delta=1e-5)
    of_client = epsilon(((2.0, 1.0, releases),), accountant="rdp", delta=1e-5)
    assert resumed.ledger.protected(1) == pytest.approx(of_examples, rel=1e-9)
    assert resumed.ledger.total(2, CLIENT) == pytest.approx(of_client, rel=1e-9)
    written = resumed.folder.table("ledger")
    assert written[written["client"] == 2]["epsilon_total"].max() == pytest.approx(of_client)

    first = load_file(kept)
    for client in (1, 2):
        again = Capture.load(resumed.folder.captures, round=2, client=client)
        one = {n: first[f"{client} {n}"] for n in again.payload.tensors}
        same = all(torch.equal(one[name], t) for name, t in again.payload.tensors.items())
        assert same == (place == "journal")
        if not same and client == 2:
            difference = changes(one, again.global_state) - changes(
                again.payload.tensors, again.global_state
            )
            # Two draws of deviation 4 each; the same one again would have cancelled out.
            assert float(difference.std()) == pytest.approx(4 * 2**0.5, rel=0.1)
