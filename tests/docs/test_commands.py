"""Every command of the README and the manual runs, on few images and in few steps.

Those of the README run in a fresh interpreter, as a user's do; the others in the one of the test,
since starting takes as long as most of them.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch
import typer
from safetensors.torch import save_file
from torch import nn

from fedlab.cli.app import app
from tests.commands import ROOT, call, run_commands
from tests.docs.pages import PAGES, blocks, lines

pytestmark = pytest.mark.xdist_group("manual")
# Needs other machines (tests/simulation/test_deployment.py, tests/engine/test_ray.py), a network
# (tests/data/test_hugging_face.py), an hour, a large network, or images that the project does not
# contain (tests/simulations/test_shipped.py).
ONLY_READ = re.compile(r"deploy|hospitals|ray|hf:|vit_b|compare (fashion_mnist|chest_xray)")
FEDLAB = {page: [each for each in lines(page) if each.startswith("fedlab ")] for page in PAGES}
RUN = {page: [each for each in FEDLAB[page] if not ONLY_READ.search(each)] for page in PAGES}
OWN_TEST = {
    "docs/extending.md",
    "docs/attack-your-flower-app.md",
    "docs/attack-an-nvflare-job.md",
}
"""Pages whose commands other tests of this folder run."""

MINE = """
name = "mine"
rounds = 2
data = { train = 200, clients = 4 }
model = { name = "mlp", width = 8 }
roles = [{ role = "leaking", clients = "0" }]
defenses = [{ name = "dp-sgd", clients = "1" }]
reconstructions = [{ clients = "0" }]
audit = { client = 1 }
"""
"""``mine.toml`` on pages that do not show it whole."""

FEW = ["data.test=40", "rounds=2", "model.width=4"]
TWO_STEPS = ["iterations=2", "tuning_iterations=8"]
FIRST = [f"reconstructions.0.{each}" for each in (*TWO_STEPS, "preset=fast", "power=false")]
SECOND = [f"reconstructions.1.{each}" for each in TWO_STEPS]
BREW = ["data.source=digits", "data.train=100", "data.test=100"]
BREW += [f"roles.0.data.{each}" for each in ("steps=2", "epochs=1", "share=0.1")]
SETTINGS = {
    "quickstart": [*FEW, "data.train=300", *FIRST, *SECOND],
    # A learned inverter needs more public images than other attacks.
    "mine.toml": [*FEW[1:], "data.test=80", "data.train=200", *FIRST],
    "unmixed": ["rounds=2"],
    "malicious_server": ["data.train=200", "data.test=100", "rounds=1", FIRST[0]],
    "trap_weights": ["data.train=200", "data.test=100", FIRST[0], FIRST[-1]],
    "suppression": ["data.train=200", "data.test=100", FIRST[0], FIRST[-1]],
    "witches_brew": [*BREW, "rounds=2"],
}
"""Settings that make a scenario small."""

FASTER = {
    "compare": ["--seeds", "1", "--processes", "1", "--set", "rounds=1"],
    "reconstruct": ["--iterations", "2"],
    "reconstruct-files": ["--preset", "fast", "--iterations", "2"],
    "robustness": ["--iterations", "2", "--images", "20"],
    "plan": ["--no-time"],
}
"""Options that make a command fast; the last one counts where a page has it too."""


def smaller(line):
    """Arguments of a command on few images, in few steps, and with two values of a sweep."""
    _, name, *rest = shlex.split(line)
    rest = [re.sub(r"^([\w.-]+=[^,\[]+,[^,]+),.*", r"\1", each) for each in rest]
    sets = SETTINGS.get(rest[0], []) if rest and name not in ("list", "report") else []
    own = {each.partition("=")[0] for each in rest}
    options = [f"--set={each}" for each in sets if each.partition("=")[0] not in own]
    return [name, *rest, *options, *FASTER.get(name, [])]


@pytest.mark.parametrize("page", [each for each in PAGES if FEDLAB[each] and each not in OWN_TEST])
def test_options_of_page_exist(page):
    group = typer.main.get_command(app)
    for line in FEDLAB[page]:
        name, command, rest = group.resolve_command(click.Context(group), shlex.split(line)[1:])
        with command.make_context(name, rest):  # raises for what the command does not take
            pass


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A function that makes a folder with what the commands of a page begin with."""

    def prepare(page):
        folder = tmp_path_factory.mktemp("page")
        shown = [each for each in blocks(page, "toml") if each.startswith('name = "mine"')]
        (folder / "mine.toml").write_text(shown[0] if shown else MINE, "utf-8")
        (folder / "package").mkdir()
        (folder / "package/module.py").write_text(
            "from torch import nn\n\n\ndef make(shape, classes):\n"
            "    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, classes))\n",
            "utf-8",
        )
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10))
        save_file(network.state_dict(), folder / "before.safetensors")
        nn.functional.cross_entropy(network(torch.rand(1, 3, 32, 32)), torch.tensor([3])).backward()
        torch.optim.SGD(network.parameters(), lr=0.01).step()
        save_file(network.state_dict(), folder / "reply.safetensors")
        return folder

    return prepare


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", [each for each in PAGES if RUN[each] and each not in OWN_TEST])
def test_commands_of_page_run(page, prepared, monkeypatch):
    commands = [smaller(each) for each in RUN[page]]
    if not any("--out runs/mine" in each for each in RUN[page]):
        commands.insert(0, smaller("fedlab run mine.toml --out runs/mine"))
    folder = prepared(page)
    if page == "README.md":
        results = run_commands(folder, *commands)
    else:
        monkeypatch.chdir(folder)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setattr(sys, "argv", [])  # put back afterwards
        results = [call(line) for line in commands]
    failed = [(line, err) for line, (code, _, err) in zip(commands, results, strict=True) if code]
    assert not failed


def test_targets_of_make_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {each.split()[1] for page in PAGES for each in lines(page) if each.startswith("make ")}
    named |= {each for text in PAGES.values() for each in re.findall(r"`make (\w+)`", text)}
    assert named
    assert named <= targets


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_certificates_of_deploying_are_made(tmp_path):
    (block,) = [each for each in blocks("docs/deploying.md") if "openssl" in each]
    subprocess.run(["bash", "-ec", block], cwd=tmp_path, check=True, capture_output=True)
    made = subprocess.run(
        ["openssl", "verify", "-CAfile", "ca.crt", "server.crt"], cwd=tmp_path, capture_output=True
    )
    assert made.returncode == 0


@pytest.mark.parametrize(
    "program", ["flower-superlink", "flower-supernode", "ray start", "flwr run"]
)
def test_options_of_others_exist(program):
    used = {
        option
        for page in PAGES
        for line in lines(page)
        if program in line
        for option in re.findall(r"(?<= )--[\w-]+", line)
    }
    assert used
    environment = {**os.environ, "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1"}
    command, *rest = program.split()
    said = subprocess.run(
        [str(Path(sys.executable).parent / command), *rest, "--help"],
        capture_output=True,
        text=True,
        env={**environment, "COLUMNS": "200"},
    )
    assert {each for each in used if each not in said.stdout} == set()
