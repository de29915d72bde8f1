"""Each notebook runs from top to bottom, and its two files hold the same cells."""

import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.py"))


def cells(notebook):
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_pair_agrees_and_is_short(script):
    one = jupytext.read(script)
    other = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    assert cells(one) == cells(other)
    assert len(one.cells) <= 12


# What each shows and leaves in its working folder: runs go to folders of their own unless named.
PICTURES = {"01": 4, "02": 3, "03": 3, "04": 3, "05": 3}
LEFT = {"03": ["comparison"], "04": ["poisoning"], "05": ["captures"]}


def pictures(notebook):
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return sum("image/png" in output.get("data", {}) for output in shown)


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_committed_shows_what_a_run_does(script):
    kept = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    code = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert pictures(kept) == PICTURES[script.stem[:2]]
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    # Progress is a line that is replaced, and no process writes beside it.
    assert sum(len(o.text) for o in outputs if o.output_type == "stream") < 1_000


FEW = ["data.train=300", "data.test=100", "model.width=8"]
FEW += [f"reconstructions.{at}.{of}iterations=20" for at in (0, 1) for of in ("", "tuning_")]
SHORTER = (
    (r"(?<![\w.])iterations=\d+", "iterations=20"),
    (r'"iterations": \d+', '"iterations": 20'),
    (r"(?<![\w.])rounds=(?:4|6)\b", "rounds=2"),
    (r"(?<![\w.])rounds=12\b", "rounds=6"),
    (r"(?<![\w.])seeds=2\b", "seeds=1"),
    (r'Scenario\.load\("quickstart"\)', f'Scenario.load("quickstart", {FEW})'),
)
"""Numbers that a test changes, since the committed outputs come from runs of full length."""


def shorter(notebook):
    for cell in notebook.cells:
        for long, short in SHORTER:
            cell.source = re.sub(long, short, cell.source)
    return notebook


@pytest.mark.slow
@pytest.mark.timeout(900)  # beside other tests
@pytest.mark.xdist_group("notebooks")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(script, tmp_path):
    notebook = shorter(jupytext.read(script))
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=800, kernel_name="python3", resources=resources).execute()
    assert pictures(notebook) == PICTURES[script.stem[:2]]
    assert [path.name for path in tmp_path.iterdir()] == LEFT.get(script.stem[:2], [])
