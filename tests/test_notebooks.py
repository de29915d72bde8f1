"""Each notebook runs from top to bottom, and its two files hold the same cells."""

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
    assert all(cell.outputs for cell in other.cells if cell.cell_type == "code")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(script, tmp_path):
    notebook = jupytext.read(script)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=240, kernel_name="python3", resources=resources).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in shown) == 3
    assert not list(tmp_path.iterdir())  # the run went to a folder of its own, and is gone
