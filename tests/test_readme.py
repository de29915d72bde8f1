"""The Python of the README runs as it stands there."""

import re
from pathlib import Path

import matplotlib
import pytest

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_there_is_an_example():
    assert len(BLOCKS) == 1


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS)
def test_the_example_runs_on_the_quickstart(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    names = {}
    exec(compile(block, README.name, "exec"), names)
    assert re.findall(r"^round \d", capsys.readouterr().out, re.MULTILINE) == ["round 1", "round 2"]
    table = names["federation"].folder.table("clients")
    assert table[table["client"] == 3]["defenses"].tolist() == ["none", "dp-sgd"]
    assert {row.round for row in names["leak"].rows} == {1}
    assert not list(tmp_path.iterdir())  # the run went to a folder of its own
