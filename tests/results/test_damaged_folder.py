"""Whatever is damaged in a run folder, each command does its work or says what is wrong.

``FEDLAB_FUZZ=300`` tries as many folders with each command.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedlab import BadInput, Federation
from fedlab.results.folder import RunFolder
from tests.commands import call
from tests.federations import small

EXAMPLES = int(os.environ.get("FEDLAB_FUZZ", "5"))

FILES = (
    *("scenario.toml", "identity.json", "environment.json", "toggles.jsonl", "rounds.jsonl"),
    *("clients.csv", "leakage.csv", "ledger.csv", "spending.jsonl", "spending.head", "audit.json"),
    *("checkpoints/last.safetensors", "checkpoints/audit.safetensors"),
    *("captures/global-0001.safetensors", "captures/reply-0001-00000.safetensors"),
    "reconstructions/round-0001.npz",
)

COMMANDS = {
    "report": (),
    "ledger": (),
    "export": ("--to", "csv", "--out", "{out}"),
    "reconstruct": ("--round", "1", "--client", "0", "--preset", "analytic"),
    "resume": (),
}

PIECES = (b'"', b",", b"\n", b"null", b"NaN", b"-1", b"1e999", b"[", b"{}", b"9" * 20, b"[" * 3000)
"""Texts that are written over a part of a file, or put in between."""


@st.composite
def damages(draw):
    """Name of a file, and a function that makes its damaged content; ``None`` deletes it."""
    name, part = draw(st.sampled_from(FILES)), draw(st.floats(0, 1))
    kind = draw(st.sampled_from(["bits", "cut", "lines", "digit", "piece", "twice", "deleted"]))
    piece, length = draw(st.sampled_from(PIECES)), draw(st.sampled_from([0, 1, 5]))
    bit, digit = draw(st.integers(0, 7)), draw(st.integers(0, 9))

    def damage(content):
        place = min(int(part * len(content)), max(len(content) - 1, 0))
        lines, digits = content.split(b"\n"), [i for i, c in enumerate(content) if chr(c).isdigit()]
        if kind == "bits" and content:
            return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]
        if kind == "cut":
            return content[:place]
        if kind == "lines":
            del lines[int(part * (len(lines) - 1))]
            return b"\n".join(lines)
        if kind == "digit" and digits:
            place = digits[int(part * (len(digits) - 1))]
            return content[:place] + str(digit).encode() + content[place + 1 :]
        if kind == "piece":
            return content[:place] + piece + content[place + length :]
        return None if kind == "deleted" else content * 2

    damage.__qualname__ = f"{kind} of {name} at {part:.2f}"
    return name, damage


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One of two rounds of a run with captures, a toggle, an audit and an attack."""
    path = tmp_path_factory.mktemp("runs") / "run"
    scenario = small(
        rounds=2,
        model={"name": "mlp", "width": 4},
        captures={"keep": "all"},
        audit={"client": 1},
        roles=[{"role": "leaking", "clients": "0"}],
        defenses=[{"name": "dp-sgd", "noise_multiplier": 1.0, "clients": "1-3"}],
        reconstructions=[{"preset": "analytic", "clients": "0"}],
    )
    federation = Federation(scenario, out=path)
    federation.step()
    federation.toggle("dp-sgd", on=True, clients=[0], rounds="2")
    return path, {client: federation.ledger.total(client) for client in range(4)}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[*HealthCheck],
    database=None,
    derandomize=EXAMPLES < 100,  # the same few cases in every run of the suite
)
@given(found=st.lists(damages(), min_size=1, max_size=2))
def test_any_damage_costs_a_sentence_at_most(run, command, found):
    path, honest = run
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place) / "run", Path(place) / "out"
        shutil.copytree(path, folder)
        for name, damage in found:
            file = folder / name
            content = damage(file.read_bytes()) if file.is_file() else None
            if content is None:
                file.unlink(missing_ok=True)
            else:
                file.write_bytes(content)
        arguments = [each.format(out=out) for each in COMMANDS[command]]
        code, _, err = call([command, str(folder), *arguments])
        assert code in (0, 1, 2)
        assert (code == 0) or err.startswith("fedlab: ")
        assert "Traceback" not in err
        try:
            ledger = RunFolder.open(folder).ledger()
        except BadInput:
            assert code or command == "export"  # which copies tables, and needs no scenario
            return
        assert all(ledger.total(client) >= total for client, total in honest.items())


def test_page_says_what_it_lacks(run, tmp_path):
    folder = Path(shutil.copytree(run[0], tmp_path / "run"))
    for name in ("clients.csv", "leakage.csv", "reconstructions/round-0001.npz"):
        (folder / name).write_bytes(b"\xff")
    code, _, err = call(["report", str(folder)])
    page = (folder / "report.html").read_text()
    assert code == 1
    assert all(name in err for name in ("clients.csv", "leakage.csv", "round-0001.npz"))
    assert "Leak: <strong>unknown" in page
    assert "accuracy" in page
    code, _, err = call(["export", str(folder), "--to", "csv", "--out", str(tmp_path / "out")])
    assert code == 1
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == [
        "ledger.csv",
        "rounds.csv",
    ]
    assert call(["ledger", str(folder)])[0] == 0


def test_weights_that_changed_are_not_resumed(run, tmp_path):
    folder = Path(shutil.copytree(run[0], tmp_path / "run"))
    file = folder / "checkpoints" / "last.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 64
    file.write_bytes(content)
    with pytest.raises(BadInput, match="changed since it was written"):
        Federation.resume(folder)


@pytest.mark.parametrize("content", [b"", b"round,client\n"])
def test_lost_rows_of_clients_are_told_before_a_resume(run, tmp_path, content):
    folder = Path(shutil.copytree(run[0], tmp_path / "run"))
    (folder / "clients.csv").write_bytes(content)
    code, _, err = call(["resume", str(folder)])
    assert code == 2
    assert "lacks the rows of round 1" in err
