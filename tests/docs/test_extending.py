"""The plug-ins of docs/extending.md work as the page shows them."""

import ast
import re

import pandas as pd
import pytest

from tests.commands import ROOT, run_commands

pytestmark = pytest.mark.xdist_group("extending")  # share one run
PAGE = (ROOT / "docs" / "extending.md").read_text("utf-8")
FILES = dict(
    re.findall(r"^```(?:python|toml)\n# (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
)
MODULES = [name for name in FILES if name.endswith(".py")]
SMALL = ("--set", "rounds=2", "--set", "data.train=100", "--set", "data.test=40")
QUICK = ("--set", "reconstructions.0.iterations=5", "--set", "model.width=4")


def test_page_has_its_files():
    assert set(FILES) == {
        *("sign_only.py", "laplace.py", "dark_border.py", "agreement.py", "brightness.py"),
        "mine.toml",
    }


@pytest.mark.parametrize("name", MODULES)
def test_plugin_is_short(name):
    assert len(FILES[name].splitlines()) < 40
    assert ast.get_docstring(ast.parse(FILES[name]).body[-1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the files of the page."""
    path = tmp_path_factory.mktemp("mine")
    for name, text in FILES.items():
        (path / name).write_text(text, "utf-8")
    return path


@pytest.fixture(scope="module")
def outputs(folder):
    """The output of the page's commands on few images."""
    lines = {
        "run": ("run", "mine.toml", *SMALL, *QUICK, "--out", "runs/mine"),
        "ledger": ("ledger", "runs/mine"),
        "report": ("report", "runs/mine"),
    }
    results = dict(zip(lines, run_commands(folder, *lines.values()), strict=True))
    assert not {name: result for name, result in results.items() if result[0]}
    return {name: out for name, (_, out, _) in results.items()}


def test_defenses_run_and_are_recorded(folder, outputs):
    clients = pd.read_csv(folder / "runs/mine/clients.csv", keep_default_na=False)
    assert set(clients["status"]) == {"ok"}
    defenses = clients.groupby("client")["defenses"].first().tolist()
    signs = "sign_only:SignOnly"
    assert defenses == [signs, signs, "laplace:Laplace", "none", "none"]
    page = (folder / "runs/mine/report.html").read_text("utf-8")
    for name in (signs, "laplace:Laplace", "agreement:Agreement"):
        assert name in page


def test_laplace_epsilons_add_up(folder, outputs):
    ledger = pd.read_csv(folder / "runs/mine/ledger.csv", keep_default_na=False)
    own = ledger[ledger["client"] == 2]
    assert set(own["unit"] + " " + own["adjacency"]) == {"client replace-one"}
    assert own["epsilon_total"].astype(float).tolist() == [50.0, 100.0]
    assert set(ledger[ledger["client"] == 1]["statement"]) == {"open"}
    assert "laplace:Laplace" in outputs["ledger"]


def test_metric_is_a_column(folder, outputs):
    leakage = pd.read_csv(folder / "runs/mine/leakage.csv")
    assert leakage["brightness_error"].between(0, 1).all()


@pytest.mark.slow
def test_comparison_has_the_defenses(folder):
    (line,) = re.findall(r"^fedlab (compare mine.toml .*)$", PAGE, re.MULTILINE)
    options = ("--seeds", "1", "--processes", "1", "--out", "compared", "--set", "rounds=1")
    code, _, err = run_commands(folder, (*line.split(), *SMALL[2:], *QUICK, *options))[0]
    assert code == 0, err
    frame = pd.read_csv(folder / "compared/comparison.csv")
    own = {"sign_only:SignOnly", "laplace:Laplace:epsilon=20"}
    assert set(frame["defense"]) == {"none", "clip-noise", *own}
    page = (folder / "compared/report.html").read_text("utf-8")
    assert all(name in page for name in own)
