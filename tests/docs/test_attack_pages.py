"""The app, the commands and the Python of the pages on other people's federations work."""

import contextlib
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from flwr.app import ArrayRecord
from flwr.serverapp.strategy import FedAvg

from benchmarks.flower_app import Configured
from fedlab.integrations.capture_folder import CaptureFolder
from fedlab.integrations.readers import FORMATS
from tests.commands import ROOT, run_commands
from tests.report.page.pages import Page, asks_nobody

FLOWER = (ROOT / "docs" / "attack-your-flower-app.md").read_text("utf-8")
NVFLARE = (ROOT / "docs" / "attack-an-nvflare-job.md").read_text("utf-8")
QUICK = ("--preset", "fast", "--iterations", "5", "--no-power", "--device", "cpu")


def files_of(page):
    """Files of a page by name."""
    named = r"^```(?:python|toml)\n# (\S+\.\w+)\n(.*?)^```$"
    return dict(re.findall(named, page, re.MULTILINE | re.DOTALL))


def commands_of(page, name):
    """Arguments of the page's commands of a program."""
    lines = re.findall(rf"^{name} (.*)$", page.replace("\\\n", " "), re.MULTILINE)
    return [line.split() for line in lines]


@pytest.fixture
def app(tmp_path):
    """A folder with the files of the page on Flower."""
    for name, text in files_of(FLOWER).items():
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


def end_superlink(left_over):
    """End the SuperLink that ``flwr run`` left running, as the page says."""
    (find,) = re.findall(r"^(pgrep .*?) +#", FLOWER, re.MULTILINE)
    found = subprocess.run(find, shell=True, capture_output=True, text=True, check=True).stdout
    (superlink,) = (each for each in left_over() if str(each.pid) in found.split())
    superlink.terminate()  # as `kill` does
    assert not left_over(patience=30)


def run_app(folder, left_over, **config):
    """Run the page's app by the page's command; nothing that was started is left over."""
    (line,) = commands_of(FLOWER, "flwr run")
    settings = "".join(f" {name}={value!r}" for name, value in config.items())
    scripts, home = Path(sys.executable).parent, folder / "flwr"
    home.mkdir()
    command = " ".join(line).replace("captures'\"", f"captures'{settings}\"")
    environment = os.environ | {
        "FLWR_HOME": str(home),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    try:
        done = subprocess.run(
            f"flwr run {command}",
            cwd=folder,
            env=environment,
            shell=True,
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        end_superlink(left_over)
        return done.stdout[-3000:] + done.stderr[-3000:]
    finally:
        # Whatever happened; only what this test started is ended.
        for end in (psutil.Process.terminate, psutil.Process.terminate, psutil.Process.kill):
            for process in left_over():
                with contextlib.suppress(psutil.NoSuchProcess):
                    end(process)
            left_over(patience=15)
        assert not left_over()


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.xdist_group("ray")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_flower_app_runs_and_is_attacked_as_shown(app, left_over):
    output = run_app(app, left_over)
    replies = CaptureFolder(app / "captures").replies
    assert replies == [(r, c) for r in (1, 2) for c in range(4)], output
    (python,) = commands_of(FLOWER, "python")
    attack, report, files = commands_of(FLOWER, "fedlab")
    saved = subprocess.run(
        [sys.executable, *python], cwd=app, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert saved.returncode == 0
    results = run_commands(app, (*attack, *QUICK), report, (*files, *QUICK))
    assert [code for code, _, _ in results] == [0, 0, 0], results
    for name in ("captures/report.html", "audit.html"):
        text = (app / name).read_text("utf-8")
        page = Page(text)
        assert asks_nobody(text)
        assert "Adam with learning rate 0.01, 3 epochs in batches of 4: 6 steps." in page.text
        assert "8 images" in page.text
        assert "What was stated: in doubt" not in page.text
    (kept,) = CaptureFolder(app / "captures").audits
    assert kept.terms.num_images == len(kept.leak.rows) == 8
    assert kept.membership.members == 8
    # Whoever takes the update for one of SGD is told.
    wrong = ("--local-lr", "0.1", "--local-batch", "8", "--page", "wrong.html")
    code, out, err = run_commands(app, (*attack, *QUICK, *wrong))[0]
    assert code == 0, err
    assert "What was stated: in doubt." in out


def test_python_of_the_flower_page_runs(app, monkeypatch):
    monkeypatch.chdir(app)
    monkeypatch.syspath_prepend(app)
    sent, replied = re.findall(r"^    torch\.save\(.*$", FLOWER, re.MULTILINE)
    text = (app / "digits_app.py").read_text("utf-8")
    text = re.sub(r"(    net\.load_state_dict.*\n)", rf"\1{sent}\n", text)
    text = text.replace("    metrics = MetricRecord", f"{replied}\n    metrics = MetricRecord")
    (app / "digits_app.py").write_text(text, "utf-8")
    monkeypatch.delitem(sys.modules, "digits_app", raising=False)
    module = importlib.import_module("digits_app")
    grid = Configured(module.client, 4)
    training = {"images": 8, "batch": 4, "epochs": 3, "optimiser": "adam"}
    grid.config = {"folder": "captures", **training}
    strategy = FedAvg(fraction_evaluate=0.0)
    strategy.start(grid, ArrayRecord(module.Net().state_dict()), num_rounds=1)
    exec(compile(files_of(FLOWER)["save_images.py"], "save_images", "exec"), {})
    (block,) = re.findall(r"^```python\n(import fedlab\n.*?)^```$", FLOWER, re.M | re.S)
    quick = "preset='fast', iterations=5, device='cpu', shape="
    exec(compile(block.replace("shape=", quick), "page", "exec"), names := {})
    assert names["audit"].verdict != "unscored"
    assert names["audit"].findings == ()  # the page states the training of its app
    assert (app / "audit.html").is_file()


def test_table_of_the_flower_page_has_every_format():
    table = re.search(r"^\| ending .*?\n\n", FLOWER, re.MULTILINE | re.DOTALL)[0]
    named = set(re.findall(r"`(\.\w+)`", table))
    assert named == set(FORMATS) - {".npy"}


def test_nvflare_page_works_on_files_like_its(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (name, text), *_ = files_of(NVFLARE).items()
    assert name == "save_model.py"
    exec(compile(text, name, "exec"), names := {})
    (tmp_path / "my_networks.py").write_text(
        "from torch import nn\n\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, 10))\n"
    )
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    kept = {"model": before, "train_conf": {"train": {"model": "Net"}}, "meta_props": {"round": 0}}
    torch.save(kept, "FL_global_model.pt")
    net(torch.rand(1, 1, 8, 8)).square().sum().backward()
    after = {k: before[k] - 0.1 * p.grad for k, p in net.named_parameters()}
    names["save_model"](SimpleNamespace(params=after), "after.npz")
    change = {key: (after[key] - before[key]).numpy() for key in after}
    names["save_model"](SimpleNamespace(params=change), "change.npz")
    assert set(np.load("after.npz").files) == set(after)
    (line,) = commands_of(NVFLARE, "fedlab")
    moved = ["change.npz" if part == "after.npz" else part for part in line]
    results = run_commands(tmp_path, (*moved, "--kind", "difference", *QUICK), (*line, *QUICK))
    assert [code for code, _, _ in results] == [0, 0], results
    assert "after.npz" in Page((tmp_path / "audit.html").read_text("utf-8")).text
