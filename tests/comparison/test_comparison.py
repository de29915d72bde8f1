"""compare and Comparison: refusals, folders, resumes and repetitions."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from filelock import FileLock

from fedlab import BadInput, Comparison, RunFailed, compare
from fedlab.comparison import is_comparison
from fedlab.results.folder import RunFolder
from tests.comparison.test_parsing import MINE, Mine
from tests.federations import small

SHORT = small("rounds=1")


def test_a_comparison_can_be_opened_again(tmp_path):
    made = compare(SHORT, ["none", "mixup"], seeds=2, out=tmp_path / "c", processes=1)
    opened = Comparison.open(tmp_path / "c")
    assert is_comparison(tmp_path / "c")
    assert opened.frame.equals(made.frame)
    assert opened.scenario == SHORT
    assert (opened.defenses, opened.rules, opened.seeds) == (("none", "mixup"), ("FedAvg",), (0, 1))
    assert "none, mixup" in repr(opened)


def test_foreign_defense_is_compared_with_ours(tmp_path):
    asked = ["none", "mixup", Mine(factor=0.25)]
    found = compare(SHORT, asked, seeds=1, out=tmp_path, processes=1)
    label = f"{MINE}:factor=0.25"
    assert found.defenses == ("none", "mixup", label)
    assert set(found.frame[found.frame["defense"] == label]["defenses"]) == {MINE}
    again = compare(SHORT, [label], seeds=1, out=tmp_path, processes=1)
    assert again.runs[0].folder.path == found.runs[2].folder.path


def test_more_defenses_and_seeds_add_to_what_is_there(tmp_path):
    compare(SHORT, ["none"], seeds=1, out=tmp_path, processes=1)
    (first,) = (tmp_path / "runs").iterdir()
    before = (first / "rounds.jsonl").read_bytes()
    more = compare(SHORT, ["none", "mixup"], seeds=2, out=tmp_path, processes=1)
    assert (len(more.runs), more.others) == (4, 0)
    assert (first / "rounds.jsonl").read_bytes() == before
    fewer = compare(SHORT, ["mixup"], seeds=1, out=tmp_path, processes=1)
    assert fewer.defenses == Comparison.open(tmp_path).defenses == ("mixup",)
    assert fewer.others == 3
    lacking = dataclasses.replace(fewer, failures={"none-FedAvg-seed-0": "no power"})
    assert lacking.others == 2


def test_results_of_each_complete_seed_come_early(tmp_path):
    found = []

    def note(comparison):
        again = Comparison.open(tmp_path)
        assert again.frame.equals(comparison.frame)
        found.append((again.defenses, again.seeds, list(again.failures)))

    asked = ["none", "dp-instahide:k=50", "mixup"]
    compare(SHORT, asked, seeds=[3, 1, 2], out=tmp_path, processes=1, on_seed=note)
    bad = "dp-instahide-k=50-FedAvg-seed-{}"
    kept = ("none", "mixup")
    assert found == [(kept, (3,), [bad.format(3)]), (kept, (3, 1), [bad.format(3), bad.format(1)])]


def test_cpu_time_of_each_run_is_known(tmp_path):
    found = compare(SHORT, ["none", "mixup"], seeds=1, out=tmp_path, processes=1)
    times = found.summary["cpu_seconds"]
    assert (times > 0).all()
    assert (times < found.summary["seconds"] * 4).all()
    older = found.runs[0].folder.path / "rounds.jsonl"
    older.write_text(re.sub(r', "cpu_seconds": [^}]*', "", older.read_text()))
    assert Comparison.open(tmp_path).summary["cpu_seconds"].isna().tolist() == [True, False]


def test_failed_run_is_named_and_others_stay(tmp_path):
    found = compare(SHORT, ["none", "dp-instahide:k=50"], seeds=1, out=tmp_path, processes=1)
    assert (found.defenses, found.others) == (("none",), 0)
    assert list(found.failures) == ["dp-instahide-k=50-FedAvg-seed-0"]
    assert Comparison.open(tmp_path).failures == found.failures
    with pytest.raises(RunFailed, match="no run has a result"):
        compare(SHORT, ["dp-instahide:k=50"], seeds=1, out=tmp_path / "other", processes=1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"defenses": []}, "at least one of its defenses"),
        ({"defenses": ["none", "none"]}, "twice among the defenses"),
        ({"defenses": ["nothing"]}, "there is no defense"),
        ({"seeds": 0}, "at least one seed"),
        ({"seeds": [1, 1]}, "twice among the seeds"),
        ({"seeds": [-1]}, "seed"),
        ({"rules": ["FedAwg"]}, "FedAwg"),
        ({"rules": []}, "at least one of its rules"),
        ({"attacks": []}, "at least one of its attacks"),
        ({"attacks": ["fast", "fast:iterations=9"]}, '"fast" is twice among the attacks'),
        ({"processes": 0}, "at least one run"),
        ({"defenses": "none"}, 'defenses are a list, and not the text "none"'),
        ({"rules": "FedAvg"}, "rules are a list"),
        ({"seeds": "3"}, "seeds are a list"),
        ({"attacks": "fast"}, "attacks are a list"),
    ],
)
def test_bad_input_leaves_no_folder(tmp_path, arguments, sentence):
    given = {"defenses": ["none"], "seeds": 1, "processes": 1} | arguments
    with pytest.raises(BadInput, match=sentence):
        compare(SHORT, given.pop("defenses"), out=tmp_path / "c", **given)
    assert not (tmp_path / "c").exists()


def test_folder_of_a_run_is_refused(tmp_path):
    RunFolder.create(tmp_path / "run", SHORT)
    with pytest.raises(BadInput, match="holds a run"):
        compare(SHORT, ["none"], seeds=1, out=tmp_path / "run", processes=1)


def test_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(BadInput, match="is not empty, and holds no comparison"):
        compare(SHORT, ["none"], seeds=1, out=tmp_path, processes=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_second_comparison_in_a_folder_is_refused(tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(BadInput, match="another comparison"):
        compare(SHORT, ["none"], seeds=1, out=tmp_path, processes=1)


@pytest.mark.parametrize("text", ["{", "{}", '{"runs": []}', '{"runs": 3, "scenario": ""}'])
def test_damaged_comparison_is_refused(tmp_path, text):
    (tmp_path / "comparison.json").write_text(text)
    with pytest.raises(BadInput, match="cannot be read"):
        Comparison.open(tmp_path)


def test_folder_without_a_comparison_is_refused(tmp_path):
    with pytest.raises(BadInput, match="holds no comparison"):
        Comparison.open(tmp_path)


def test_comparison_can_be_moved(tmp_path):
    made = compare(SHORT, ["none"], seeds=1, out=tmp_path / "here", processes=1)
    (tmp_path / "here").rename(tmp_path / "there")
    assert Comparison.open(tmp_path / "there").frame.equals(made.frame)
    assert str(tmp_path) not in json.dumps((tmp_path / "there" / "comparison.json").read_text())


SCRIPT = """
import sys
from fedlab import compare
from tests.federations import small

compare(small("rounds=5"), ["none", "mixup"], seeds=2, out=sys.argv[1], processes=2)
"""


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_killed_comparison_continues(tmp_path):
    """A script without a guard, as users write them; its workers end with it."""
    folder = tmp_path / "c"
    script = tmp_path / "compares.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([".", *sys.path])}
    first = subprocess.Popen([sys.executable, script, folder], env=environment)
    checkpoints = "runs/*/checkpoints/last.safetensors"
    try:
        while len(list(folder.glob(checkpoints))) < 2:
            assert first.poll() is None
            time.sleep(0.02)
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    time.sleep(3)  # a worker sees within a moment that it is alone
    half = {path: path.read_bytes() for path in folder.glob("runs/*/rounds.jsonl")}
    time.sleep(1)
    assert {path: path.read_bytes() for path in half} == half  # nobody writes any more
    assert not (folder / "comparison.json").exists()
    subprocess.run([sys.executable, script, folder], env=environment, check=True)
    found = Comparison.open(folder)
    assert len(found.runs) == 4
    for path, before in half.items():
        rows = before[: before.rindex(b"\n") + 1].splitlines()
        # Seconds are among a row's values, so a round that was run again would differ.
        assert path.read_bytes().splitlines()[: len(rows) - 1] == rows[:-1]
    undisturbed = compare(
        small("rounds=5"), ["none", "mixup"], seeds=2, out=tmp_path / "u", processes=1
    )
    columns = ["defense", "seed", "round", "client", "accuracy"]
    assert found.frame[columns].equals(undisturbed.frame[columns])
