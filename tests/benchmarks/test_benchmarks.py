"""The bare loop that a Federation is timed against does the same work, and the command works."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import bare
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.fresh import fresh, peak_memory
from benchmarks.options import Options
from benchmarks.other_loops import by_processes
from benchmarks.report import Claim, Figure, Report
from fedlab import Federation
from fedlab.core.digest import digest
from tests.federations import small


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_bare_loop_and_the_federation_end_in_the_same_bits(momentum):
    # 130 images among 3 clients: unequal weights, and a last batch that is smaller.
    scenario = small(
        "rounds=2",
        "data.clients=3",
        "data.train=130",
        "training.lr_decay=0.9",
        "training.epochs=2",
        f"training.momentum={momentum}",
    )
    federation = Federation(scenario)
    federation.run()
    *_, last = bare.rounds(scenario)
    assert last.state.keys() == federation.state.keys()
    for name, value in federation.state.items():
        assert torch.equal(value, last.state[name]), name
    assert last.accuracy == pytest.approx(federation.folder.rounds()[-1].accuracy)
    assert last.loss == pytest.approx(federation.folder.rounds()[-1].loss)


@pytest.mark.slow
def test_two_processes_by_hand_end_in_the_same_bits():
    scenario = small("rounds=3", "data.clients=3", "data.train=130")
    *_, last = bare.rounds(scenario)
    found = by_processes(scenario)
    assert found.weights == digest(last.state)
    assert found.accuracy == last.accuracy


def test_without_a_name_all_are_listed(capsys):
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(BENCHMARKS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["speed"], 'there is no benchmark "speed"'),
        (["scale", "--repeats", "0"], "must be at least 1"),
        (["scale", "--data", "x.npz"], "which makes its own images"),
        (["cifar"], "make_npz.py"),
        (["gpu"], "make_npz.py"),
        (["reconstruction"], "make_npz.py"),
        (["tuning", "--data", "nowhere.npz"], "make_npz.py"),
        (["tuning", "--photo", "x.png"], "for the benchmark reconstruction"),
        (["theory"], "make_npz.py"),
        (["tuned"], "make_npz.py"),
        (["graph"], "name an .npz of chest X-rays"),
        (["joint"], "a folder with cifar10.npz, fashion_mnist.npz"),
        (["learned"], "a folder with fashion_mnist.npz, cifar10.npz"),
        (
            ["cifar", "--cells", "x.jsonl"],
            "for the benchmarks decoder, joint, learned, strongest, theory, tuned",
        ),
        (["reconstruction", "--picture", "x.png"], "for the benchmarks cifar"),
        (["scale", "--device", "cuda"], "which runs on the CPU"),
    ],
)
def test_bad_input_is_told_in_one_sentence(arguments, said, capsys):
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1


def test_options_name_files_without_their_folders():
    given = Options(
        3, Path("/home/me/cifar10.npz"), Path("a.png"), Path("/home/me/cat.jpg"), "cuda"
    )
    assert str(given) == " --repeats 3 --data cifar10.npz --photo cat.jpg --device cuda"
    assert str(Options()) == ""


def test_a_report_keeps_the_spread_and_no_paths(tmp_path):
    report = Report(
        title="How long?",
        settings={"rounds": 2},
        figures=[Figure("a round", "s", [3.0, 1.0, 2.0]), Figure("Ray", "s", failure="no Ray")],
        claims=[Claim("2 is small", holds=True)],
    )
    report.save(tmp_path / "new" / "x.json", command="python -m benchmarks x")
    text = (tmp_path / "new" / "x.json").read_text()
    facts = json.loads(text)
    first, second = facts["figures"]
    assert (first["median"], first["min"], first["max"], first["n"]) == (2, 1, 3, 3)
    assert (second["failure"], second["n"]) == ("no Ray", 0)
    assert {"cpu", "cores", "memory_gib", "gpu"} == set(facts["hardware"])
    assert str(tmp_path) not in text
    assert report.table().row_count == 2


def test_a_fresh_process_starts_from_its_own_memory():
    held = torch.ones(2**27, dtype=torch.uint8)  # 128 MiB in this process
    assert fresh(abs, -3).result == 3
    assert fresh(abs, -3).peak < peak_memory() - held.nbytes / 2**20
