"""Commands end with the right exit code, and bad input with one sentence."""

import io
import re
import runpy
import sys
from importlib.metadata import version

import click
import pytest
import torch
import typer

from fedlab import Federation, RunFailed
from fedlab.cli.app import app
from fedlab.results.checkpoint import Checkpoint
from tests.federations import SMALL


@pytest.fixture
def scenario(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(
        SMALL + '[[roles]]\nrole = "leaking"\nclients = "0"\n'
        '[[reconstructions]]\nclients = "0"\nrounds = "1"\niterations = 5\n'
    )
    return path


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["training.learning_rate=0.1"], 'training has no key "learning_rate"'),
        (["trainin.lr=0.1"], 'did you mean "training"'),
        (["training.lrr=0.1"], 'did you mean "lr"'),
        (["reconstructions.0.rounds='5'"], '"5" names round 5, but rounds go from 1 to 4'),
        (["roles.0.clients='4'"], "names client 4"),
        (["training.lr=-1"], "training.lr"),
        (["data.source='npz:missing.npz'"], "missing.npz, but there is no such file"),
        (["data.source='folder:missing'"], "there is no such folder"),
        (["data.train=3"], "cannot share 3 images"),
        (["model.name='alexnet'", "model.width=4"], "no free width"),
        (["model.name='convnet8'"], "at least 9x9"),
        (["model.name='convnett'"], 'did you mean "convnet"'),
        (["server.strategy='FedAvgg'"], 'no aggregation rule "FedAvgg"; did you mean "FedAvg"'),
        (["data.partition='iidd'"], 'there is no partition "iidd"; did you mean "iid"'),
        (["data.partition='no.such:parts'"], 'partition "no.such:parts" cannot be imported'),
        (["server.strategy='no.such:Rule'"], 'aggregation rule "no.such:Rule" cannot be'),
        (["server.cohort=9"], "only 4 clients"),
        (["engine.device='tpu'"], "engine.device"),
        (["nonsense"], "write it as --set training.lr=0.05"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_two(fedlab, scenario, settings, sentence):
    options = [part for setting in settings for part in ("--set", setting)]
    code, _, err = fedlab("run", scenario, "--out", "run", *options)
    assert code == 2
    assert sentence in err
    assert err.startswith("fedlab: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_a_network_for_other_images_is_refused(fedlab, tmp_path):
    path = tmp_path / "large.toml"
    path.write_text('[model]\nname = "alexnet"\n')
    code, _, err = fedlab("run", path, "--out", "run")
    assert code == 2
    assert "does not take images of 1x8x8" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("norm", ['norm = "batch"', ""], ids=["asked-for", "the-networks-own"])
def test_batch_norm_with_dp_sgd_names_the_fix(fedlab, tmp_path, norm):
    path = tmp_path / "bn.toml"
    name = "resnet8" if norm else "mobilenet_v2"
    path.write_text(f'[model]\nname = "{name}"\n{norm}\n[[defenses]]\nname = "dp-sgd"\n')
    code, _, err = fedlab("run", path, "--out", "run")
    assert code == 2
    assert 'model.norm = "group"' in err
    assert err.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_without_a_device_is_refused(fedlab, scenario):
    code, _, err = fedlab("run", scenario, "--device", "cuda", "--out", "run")
    assert code == 2
    assert 'engine.device is "cuda", but PyTorch sees 0 CUDA devices here' in err


def test_overlapping_roles_name_the_cell(fedlab, scenario):
    scenario.write_text(
        scenario.read_text() + '[[roles]]\nrole = "poisoning"\nclients = "0-1"\nrounds = "3-"\n'
    )
    code, _, err = fedlab("show", scenario)
    assert code == 2
    assert "both claim round 3, client 0" in err


def test_a_scenario_or_a_run_that_is_not_there(fedlab, tmp_path):
    code, _, err = fedlab("run", "quickstrat")
    assert code == 2
    assert "quickstart" in err
    code, _, err = fedlab("resume", tmp_path / "nothing")
    assert code == 2
    assert "holds no run" in err
    code, _, err = fedlab("run")
    assert code == 2


@pytest.mark.parametrize(
    "command",
    [
        ("resume", "nothing"),
        ("ledger", "nothing"),
        ("reconstruct", "nothing", "--round", "1", "--client", "0"),
        ("show", "missing.toml"),
        ("run", "missing.toml"),
    ],
    ids=lambda command: command[0],
)
def test_a_missing_run_is_one_sentence(fedlab, command):
    code, out, err = fedlab(*command)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert command[1] in err


@pytest.mark.parametrize(
    "content", [b"rounds = ", b"\xff\xfe\x00", b"\x89PNG\r\n\x1a\n"], ids=["half", "utf-16", "png"]
)
def test_a_file_without_toml_is_one_sentence(fedlab, tmp_path, content):
    (tmp_path / "odd.toml").write_bytes(content)
    code, _, err = fedlab("show", "odd.toml")
    assert code == 2
    assert err.startswith("fedlab: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["old[draft]", "x[/y]", "[bold]x", "a:smile:b"])
def test_brackets_in_a_name_are_printed_as_they_are(fedlab, name):
    code, _, err = fedlab("show", name)
    assert code == 2
    assert f'"{name}"' in err


def test_a_scenario_name_may_have_brackets(fedlab, scenario):
    settings = ("--set", "name='trial[/1]'", "--set", "rounds=1")
    code, out, err = fedlab("run", scenario, "--out", "run[/1]", *settings)
    assert (code, err) == (0, "")
    assert "trial[/1]" in out


def test_an_unknown_option_exits_with_two(fedlab, scenario):
    assert fedlab("frobnicate")[0] == 2
    assert fedlab("run", scenario, "--frobnicate")[0] == 2
    assert fedlab("reconstruct", "run")[0] == 2


def test_an_empty_client_is_refused_before_the_run(fedlab, scenario):
    skew = "data.partition='dirichlet'", "data.alpha=0.001", "data.clients=20"
    options = [part for setting in skew for part in ("--set", setting)]
    code, _, err = fedlab("run", scenario, "--out", "run", *options)
    assert code == 2
    assert "would hold no image" in err
    assert err.count("\n") == 1


def test_the_error_of_a_failed_run_is_one_sentence(fedlab, scenario, monkeypatch):
    def fail(*_arguments, **_options):
        raise RunFailed("round 1: all clients failed or were refused")

    monkeypatch.setattr(Federation, "step", fail)
    code, _, err = fedlab("run", scenario, "--out", "run")
    assert (code, err) == (1, "fedlab: round 1: all clients failed or were refused\n")


def test_a_damaged_run_is_one_sentence(fedlab, scenario, tmp_path):
    assert fedlab("run", scenario, "--out", "run", "--set", "rounds=1")[0] == 0
    (tmp_path / "run" / "checkpoints" / "last.safetensors").write_bytes(b"half")
    for command in (("resume", "run"), ("reconstruct", "run", "--round", 1, "--client", 0)):
        code, _, err = fedlab(*command)
        assert code == 2
        assert "cannot be read" in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("out", ["small.toml/x.png", "small.toml/deep/x.png", ".", "x.doc"])
def test_an_unwritable_picture_is_refused_first(fedlab, scenario, tmp_path, monkeypatch, out):
    assert fedlab("run", scenario, "--out", "run", "--set", "rounds=1")[0] == 0
    monkeypatch.setattr(Federation, "reconstruct", lambda *_, **__: 1 / 0)
    code, _, err = fedlab("reconstruct", "run", "--round", 1, "--client", 0, "--out", out)
    assert code == 2
    assert err.startswith("fedlab: ")
    assert err.count("\n") == 1


def test_the_folder_of_a_picture_is_made(fedlab, scenario, tmp_path):
    assert fedlab("run", scenario, "--out", "run", "--set", "rounds=1")[0] == 0
    options = ("--round", 1, "--client", 0, "--iterations", 2, "--out", "new/deep/x.png")
    code, _, err = fedlab("reconstruct", "run", *options)
    assert (code, err) == (0, "")
    assert (tmp_path / "new" / "deep" / "x.png").is_file()


@pytest.mark.parametrize("out", ["small.toml", "small.toml/run"])
@pytest.mark.parametrize("engine", ["in-process", "ray"])
def test_a_run_folder_under_a_file_is_refused_at_once(fedlab, scenario, monkeypatch, out, engine):
    monkeypatch.setattr(Federation, "__init__", lambda *_, **__: 1 / 0)
    code, _, err = fedlab("run", scenario, "--out", out, "--engine", engine)
    assert code == 2
    assert "cannot be made" in err
    assert err.count("\n") == 1


def test_a_refused_run_prints_no_folder(fedlab, scenario):
    code, out, _ = fedlab("run", scenario, "--out", "run", "--set", "server.strategy='FedAvgg'")
    assert (code, out) == (2, "")
    code, out, _ = fedlab("run", scenario, "--out", "run", "--set", "rounds=1")
    assert code == 0
    assert "1 rounds, writing to run\nround 1" in out


def test_a_run_killed_in_round_one_is_resumed(fedlab, scenario, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fedlab("run", scenario, "--out", "run")
    code, out, err = fedlab("resume", "run")
    assert (code, err) == (0, "")
    assert "after round 0 of 4" in out


def test_a_reconstruction_of_a_round_that_was_not_run(fedlab, scenario):
    assert fedlab("run", scenario, "--out", "run", "--set", "rounds=1")[0] == 0
    for number in (0, 2):
        code, _, err = fedlab("reconstruct", "run", "--round", number, "--client", 0)
        assert code == 2
        assert f"round {number} has not been run" in err


def test_the_schedule_shows_who_does_what(fedlab, scenario):
    text = '[[defenses]]\nname = "dp-sgd"\nclients = "1"\nrounds = "3-"\n'
    scenario.write_text(scenario.read_text() + text)
    code, out, _ = fedlab("show", scenario)
    assert code == 0
    assert "leak" in out
    assert "dp" in out.lower()
    assert fedlab("show", scenario, "--set", "defenses=[]")[1] != out


@pytest.mark.parametrize(
    "setting",
    [
        "model.name='convnett'",
        "data.source='npz:missing.npz'",
        "data.train=3",
        "engine.device='tpu'",
        "server.strategy='Krum:x'",
        "server.options.nothing=1",
        "model.name='alexnet'",
        "model.width=60000",
        "data.image_size=8",
        "reconstructions.0.preset='no.such:preset'",
    ],
)
def test_show_refuses_what_run_refuses(fedlab, scenario, setting):
    shown = fedlab("show", scenario, "--set", setting)
    run = fedlab("run", scenario, "--out", "run", "--set", setting)
    if ":" in setting.replace("npz:", ""):
        assert shown[0] == 0
        assert "not checked further" in shown[1]
    else:
        said = [re.sub(r"[\d.]+ GiB are free", "", each[2]) for each in (shown, run)]
        assert (shown[0], said[0]) == (run[0], said[1])
    assert run[0] == 2


def test_show_runs_no_code_that_a_scenario_names(fedlab, scenario, tmp_path):
    (tmp_path / "evil.py").write_text("raise SystemExit(3)\n")
    code, out, _ = fedlab("show", scenario, "--set", "model.name='evil:make'")
    assert code == 0
    assert "not checked further, since it would run evil:make" in out


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_letters_that_a_console_lacks_are_replaced(fedlab, scenario, monkeypatch, encoding):
    text = scenario.read_text().replace('"small"', '"ε is larger"')
    scenario.write_text(text, encoding="utf-8")
    pipe = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    monkeypatch.setattr(sys, "stdout", pipe)
    assert fedlab("show", scenario)[0] == 0
    assert b"? is larger: 4 rounds" in pipe.buffer.getvalue()


def test_control_characters_do_not_reach_the_terminal(fedlab):
    code, _, err = fedlab("show", "\x1b]0;owned\x07")
    assert code == 2
    assert err.isascii()
    assert "\x1b" not in err


def test_a_name_cannot_leave_the_runs_folder(fedlab, scenario, tmp_path):
    code, _, _ = fedlab("run", scenario, "--set", "name='../../escaped'", "--set", "rounds=1")
    assert code == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["-..-escaped"]


def test_a_whole_run_then_attack_resume_and_ledger(fedlab, scenario, tmp_path):
    code, out, err = fedlab("run", scenario, "--out", "run")
    assert (code, err) == (0, "")
    for column in ("round", "defense", "accuracy", "attack", "prot.", "total", "PSNR", "SSIM"):
        assert column in out
    for column in ("chance", "verdict", "diagnostic", "picture:", "run folder:"):
        assert column in out
    assert (tmp_path / "run" / "reconstructions" / "all-rounds.png").is_file()

    code, out, _ = fedlab(
        *("reconstruct", "run", "--round", 1, "--client", 0),
        *("--labels", "inferred", "--iterations", 5),
    )
    assert code == 0
    assert "psnr" in out
    assert "easier than a real attack: single gradient step, untrained network" in out
    assert "attack: preset auto, method optimise\nverdict on 1 image: 1 " in out
    assert (tmp_path / "run/reconstructions/round-0001-client-00000.png").is_file()
    code, _, err = fedlab("reconstruct", "run", "--round", 2, "--client", 0)
    assert code == 2
    assert "captures.keep=all" in err
    code, _, err = fedlab(
        "reconstruct", "run", "--round", 1, "--client", 0, "--preset", "inverted-gradients"
    )
    assert code == 2
    assert 'did you mean "inverting-gradients"' in err

    code, out, _ = fedlab("ledger", "run")
    assert code == 0
    assert "open 1-4" in out
    code, out, _ = fedlab("resume", "run")
    assert code == 0
    code, _, err = fedlab("run", scenario, "--out", "run")
    assert code == 2
    assert "not empty" in err


def test_a_run_that_cannot_go_on_is_exit_code_one(fedlab, scenario, tmp_path):
    strict = ("--set", "server.max_examples=1", "--set", "server.max_failures=0.5")
    code, _, err = fedlab("run", scenario, "--out", "run", *strict)
    assert code == 1
    assert "3 of 4 clients failed" in err
    assert "client 1" in err
    with pytest.raises(Exception, match="no round of it ended"):
        Checkpoint.load(tmp_path / "run" / "checkpoints" / "last.safetensors")


def test_a_poison_is_shown_before_and_after_a_run(fedlab, scenario, tmp_path):
    scenario.write_text(
        scenario.read_text() + '[[roles]]\nrole = "poisoning"\nclients = "3"\n'
        'data = { attack = "gradient-matching", steps = 2, restarts = 1, target = 3 }\n'
    )
    code, out, _ = fedlab("poison", scenario, "--out", "before.png", "--images", 2)
    assert code == 0
    assert "client 3 in round 1, gradient-matching: 2 of 40 images changed" in out
    assert fedlab("run", scenario, "--out", "run", "--set", "rounds=1")[0] == 0
    assert fedlab("poison", "run", "--out", "after.png", "--images", 2)[0] == 0
    before, after = ((tmp_path / name).read_bytes() for name in ("before.png", "after.png"))
    assert before.startswith(b"\x89PNG")
    assert before != after
    code, out, _ = fedlab("robustness", "run", "--iterations", 2, "--images", 20)
    assert code == 0
    assert "accuracy on 20 test images: clean" in out
    code, _, err = fedlab("robustness", "run", "--epsilon", 0)
    assert code == 2
    assert "epsilon is in (0, 255], not 0" in err
    assert fedlab("poison", scenario, "--out", "new/picture.png", "--images", 1)[0] == 0
    assert (tmp_path / "new" / "picture.png").is_file()
    code, _, err = fedlab("poison", scenario, "--out", "new")
    assert code == 2
    assert "new is a folder" in err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("show", "Name of a scenario"),
        ("ledger", "Folder of a run"),
        ("list", "Kind of thing"),
        ("reconstruct", "Folder of a run"),
    ],
)
def test_help_describes_arguments(fedlab, command, words):
    code, out, _ = fedlab(command, "--help")
    assert code == 0
    assert words in out


def test_every_option_has_a_help_text():
    group = typer.main.get_command(app)
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command.help
        for parameter in command.params:
            assert parameter.hidden or parameter.help.endswith("."), (name, parameter.name)


def test_the_version_names_fedlab_and_pytorch(fedlab):
    code, out, err = fedlab("--version")
    assert (code, err) == (0, "")
    assert out == f"fedlab {version('fedlab-privacy')}, PyTorch {version('torch')}\n"


def test_scenarios_and_data_sets_are_listed(fedlab, scenario):
    code, out, _ = fedlab("list")
    assert code == 0
    for name in ("quickstart", "fashion_mnist", "cifar10", "chest_xray"):
        assert name in out
    code, out, _ = fedlab("list", "datasets")
    assert code == 0
    assert fedlab("data") == (0, out, "")
    for name in ("digits", "fashion-mnist", "cifar100", "npz:PATH", "folder:PATH"):
        assert name in out
    code, out, _ = fedlab("show", scenario)
    assert code == 0
    assert "leak*" in out


def test_it_also_runs_as_a_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fedlab", "list"])
    runpy.run_module("fedlab", run_name="__main__")
    assert "quickstart" in capsys.readouterr().out


def test_ctrl_c_is_no_success(fedlab, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("fedlab.scenario.scenario.packaged", interrupted)
    code, _, err = fedlab("list")
    assert code == 130
    assert "stopped" in err


def test_a_file_that_cannot_be_had_costs_a_sentence(fedlab, monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError(2, "No such file or directory", "lost.csv")

    monkeypatch.setattr("fedlab.scenario.scenario.packaged", missing)
    assert fedlab("list")[::2] == (2, "fedlab: lost.csv: No such file or directory\n")
