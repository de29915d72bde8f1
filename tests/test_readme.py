"""The Python of the README runs as it stands there, and its links lead somewhere."""

import re
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure

from tests.federations import finished, small

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def test_there_are_three_examples():
    assert len(BLOCKS) == 3


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_links_and_pictures_are_there(page):
    links = re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8"))
    for link in (each for each in links if "://" not in each):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}


@pytest.mark.slow
def test_the_example_runs_on_the_quickstart(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    names = {}
    exec(compile(BLOCKS[0], README.name, "exec"), names)
    assert re.findall(r"^round \d", capsys.readouterr().out, re.MULTILINE) == ["round 1", "round 2"]
    table = names["federation"].folder.table("clients")
    assert table[table["client"] == 1]["defenses"].tolist() == ["none", "dp-sgd"]
    assert isinstance(names["federation"].picture(), Figure)
    assert not list(tmp_path.iterdir())  # the run went to a folder of its own


@pytest.mark.slow
def test_the_comparison_runs_on_a_small_scenario(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scenario = small(
        rounds=1,
        roles=[{"role": "leaking", "clients": "0"}],
        reconstructions=[{"clients": "0", "preset": "fast", "iterations": 5}],
    )
    names = {"scenario": scenario}
    exec(compile(BLOCKS[1].replace('"quickstart"', "scenario"), README.name, "exec"), names)
    assert set(names["comparison"].frame["defense"]) == {"none", "dp-sgd", "dp-instahide"}
    assert isinstance(names["comparison"].plot(), Figure)


def test_own_defense_runs(tmp_path, monkeypatch):
    (tmp_path / "half.py").write_text(BLOCKS[2], "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    federation = finished(small("rounds=1", defenses=[{"name": "half:Half", "share": 0.2}]))
    assert set(federation.folder.table("clients")["defenses"]) == {"half:Half"}
