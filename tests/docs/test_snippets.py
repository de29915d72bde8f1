"""The Python and TOML of the README and the manual run as they stand on the pages."""

import re

import matplotlib
import pytest
from flwr.serverapp.strategy import FedAvg
from matplotlib.figure import Figure

import fedlab
from fedlab.core.plugins import looking
from fedlab.engine.in_process import InProcessGrid
from fedlab.scenario.scenario import Scenario
from tests.docs.pages import PAGES, blocks
from tests.federations import finished, small
from tests.integrations import plain_app

PYTHON = {page: blocks(page, "python") for page in PAGES if blocks(page, "python")}
OWN_TEST = {"docs/attack-your-flower-app.md", "docs/attack-an-nvflare-job.md"}
"""Pages whose snippets are run by test_attack_pages.py."""
TOML = [(page, text) for page in sorted({*PAGES} - OWN_TEST) for text in blocks(page, "toml")]
FEW = ["rounds=2", "data.train=300", "data.test=100", "model.width=8"]
FEW += [f"reconstructions.{at}.{of}iterations=5" for at in (0, 1) for of in ("", "tuning_")]


QUICK = "preset='fast', iterations=5, power=False, "
"""Settings that take the place of an attack of half a minute."""


def run(page, **names):
    """Run the one snippet of a page with some names given; returns all names."""
    (text,) = PYTHON[page]
    text = text.replace('Scenario.load("quickstart")', f'Scenario.load("quickstart", {FEW})')
    text = text.replace("watch=trace", QUICK + "watch=trace")
    exec(compile(text, page, "exec"), names)
    return names


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")


def leaking(**tables):
    return small(
        rounds=1,
        roles=[{"role": "leaking", "clients": "0"}],
        reconstructions=[{"clients": "0", "preset": "fast", "iterations": 5}],
        **tables,
    )


def test_every_snippet_is_run_here_or_in_a_test_of_its_page():
    assert set(PYTHON) - OWN_TEST == {
        "README.md",
        *("docs/first-hour.md", "docs/planning.md", "docs/comparing.md", "docs/attacking.md"),
        *("docs/bring-your-own.md", "docs/extending.md"),
    }


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/first-hour.md"])
def test_steps_and_toggles_run(page, tmp_path, capsys):
    names = run(page)
    assert re.findall(r"^round \d", capsys.readouterr().out, re.MULTILINE) == ["round 1", "round 2"]
    table = names["federation"].folder.table("clients")
    assert table[table["client"] == 1]["defenses"].tolist() == ["none", "dp-sgd"]
    assert isinstance(names["federation"].picture(), Figure)
    assert not list(tmp_path.iterdir())  # the run went to a folder of its own


@pytest.mark.slow
def test_comparison_runs(tmp_path):
    page = "docs/comparing.md"
    (text,) = PYTHON[page]
    text = text.replace('"quickstart"', "scenario").replace("seeds=3", "seeds=1, processes=1")
    exec(compile(text, page, "exec"), names := {"scenario": leaking()})
    assert set(names["comparison"].frame["defense"]) == {"none", "dp-sgd", "dp-instahide"}
    assert isinstance(names["comparison"].plot(), Figure)
    assert (tmp_path / "frontier.pdf").is_file()


def test_plan_runs():
    assert run("docs/planning.md")["found"].ceiling(10) is not None


def test_attack_trace_runs():
    federation = finished(leaking(captures={"keep": "all"}))
    names = run("docs/attacking.md", federation=federation, AttackTrace=fedlab.AttackTrace)
    assert names["trace"].looks


def test_observed_app_is_attacked():
    page = "docs/bring-your-own.md"
    (text,) = PYTHON[page]
    text = text.replace("shape=(3, 32, 32)", f"{QUICK}shape={plain_app.SHAPE}")
    names = {
        "fedlab": fedlab,
        "FedAvg": FedAvg,
        "Net": plain_app.Net,
        "arrays": plain_app.initial_arrays(),
        "grid": InProcessGrid(plain_app.app, 4),
    }
    exec(compile(text, page, "exec"), names)
    assert names["strategy"].clients


@pytest.mark.parametrize(("page", "text"), TOML)
def test_scenario_of_page_is_valid(page, text):
    with looking():
        assert Scenario.parse(text).to_toml()
