import subprocess
import sys
from importlib import import_module, metadata

import IPython
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.figure import Figure

from attacks.reconstruction import Reconstruction
from fedlab.core import views
from fedlab.core.errors import BadInput, RunFailed
from fedlab.core.views import Viewable, register_in_notebook, show
from fedlab.evaluation.attack_trace import AttackTrace
from fedlab.report.register import VIEWS


class Thing(Viewable):
    def __str__(self):
        return "a <thing>"


class Special(Thing):
    pass


def draw(thing, size=4.0):
    figure = Figure(figsize=(size, 2.0))
    figure.subplots().plot([1, 2])
    return figure


def broken(thing):
    raise AssertionError("never shown")


THING = f"{Thing.__module__}:{Thing.__qualname__}"
FOREIGN = {(THING, "plot"): f"{__name__}:draw"}


@pytest.fixture
def installed(monkeypatch):
    """Pretend that packages with these values of the entry point are installed."""

    def install(*values):
        points = [metadata.EntryPoint("its-views", value, views.GROUP) for value in values]
        monkeypatch.setattr(
            metadata, "entry_points", lambda *, group: points if group == views.GROUP else []
        )
        views._views.cache_clear()

    yield install
    views._views.cache_clear()


@pytest.mark.parametrize(
    "module", ["fedlab.privacy.ledger", "fedlab.evaluation.leaks", "fedlab.scenario.scenario"]
)
def test_data_classes_do_not_import_matplotlib(module):
    code = (
        f"import sys, {module}; print('matplotlib' in sys.modules, 'fedlab.report' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_register_imports_nothing():
    code = "import sys, fedlab.report.register; print({'torch', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(("kind", "path"), [(kind, path) for (kind, _), path in VIEWS.items()])
def test_registered_paths_exist(kind, path):
    for each in (kind, path):
        module, _, name = each.partition(":")
        assert callable(getattr(import_module(module), name))


def test_a_foreign_package_adds_a_view(installed, tmp_path):
    installed(f"{__name__}:FOREIGN")
    assert Thing().plot(3.0).get_figwidth() == 3
    assert Special().picture(size=2.0).get_figwidth() == 2
    assert 'alt=""' in Thing()._repr_html_()
    assert "a &lt;thing&gt;" in Thing()._repr_html_()
    for name in ("a.png", "a.svg", "without-an-ending"):
        assert Thing().save(tmp_path / name).stat().st_size > 0


def test_what_cannot_be_drawn_yet_is_text_in_a_notebook():
    text = AttackTrace()._repr_html_()
    assert "the trace saw no attack" in text
    assert "<img" not in text


def test_a_foreign_view_replaces_a_built_in_one(installed, monkeypatch):
    monkeypatch.setitem(VIEWS, (THING, "plot"), f"{__name__}:broken")
    installed(views.BUILT_IN, f"{__name__}:FOREIGN")
    assert Thing().plot().axes


def test_a_broken_package_is_named_in_the_log(installed, caplog):
    installed("no_such_package.views:VIEWS", f"{__name__}:FOREIGN")
    assert Thing().plot().axes
    assert "no_such_package.views:VIEWS" in caplog.text


def test_no_view_is_a_sentence(installed):
    installed()
    with pytest.raises(BadInput, match="no view 'plot' is registered for Thing"):
        Thing().plot()
    with pytest.raises(BadInput, match="no view 'html' is registered for int"):
        show(1, "html")


def test_saving_refuses_unknown_formats_and_places(installed, tmp_path):
    installed(f"{__name__}:FOREIGN")
    with pytest.raises(BadInput, match=r"\.toml; formats: .*png"):
        Thing().save(tmp_path / "a.toml")
    with pytest.raises(BadInput, match="cannot be written"):
        Thing().save(tmp_path / "no" / "a.png")
    assert not list(tmp_path.iterdir())


def test_notebooks_show_reconstructions(monkeypatch):
    shell = InteractiveShell()
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    register_in_notebook()
    result = Reconstruction(torch.full((1, 1, 4, 4), 0.5), torch.tensor([3]), cost=0.25)
    shown, _ = shell.display_formatter.format(result)
    assert shown["text/html"].count("data:image/png;base64,") == 1
    assert all(words in shown["text/html"] for words in ("label 3", "labels inferred", "0.25"))


@pytest.fixture
def cell(monkeypatch, capsys):
    """Run a cell in IPython and return what it writes."""
    shell, theirs = InteractiveShell(colors="nocolor"), []
    shell.set_custom_exc((KeyError,), lambda *error, **offset: theirs.append(error[2]))
    shell.user_ns |= {"BadInput": BadInput, "RunFailed": RunFailed}
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    register_in_notebook()

    def run(code):
        shell.run_cell(code)
        return capsys.readouterr().out

    run.theirs = theirs
    return run


CHAINED = "try:\n    1 / 0\nexcept Exception as e:\n    raise {}('no such file') from e"


@pytest.mark.parametrize("kind", ["BadInput", "RunFailed"])
def test_a_notebook_shows_an_error_as_a_sentence(cell, kind):
    text = cell(CHAINED.format(kind))
    assert text.strip().splitlines()[-1] == f"{kind}: no such file"
    assert "use %tb to see the full traceback" in text
    assert "Traceback" not in text
    assert "1 / 0" not in text
    assert "1 / 0" in cell("%tb")


def test_a_notebook_shows_bugs_in_full(cell):
    assert "1 / 0" in cell("1 / 0")


def test_the_hook_of_others_stays(cell):
    assert not cell("{}['a']")
    assert isinstance(cell.theirs[0], KeyError)
