"""Progress is told where it helps: in place in a terminal and a notebook, rarely in a pipe."""

import io
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.text import Text

from fedlab import compare
from fedlab.core import progress as module
from fedlab.core.progress import in_notebook, progress
from tests.federations import small


@pytest.fixture
def written(monkeypatch):
    def on(terminal):
        stream = io.StringIO()
        console = Console(file=stream, force_terminal=terminal, width=120)
        monkeypatch.setattr(module, "complaints", console)
        return stream

    return on


def test_a_pipe_gets_nothing_of_a_short_task(written):
    stream = written(terminal=False)
    with progress("4 runs", 8, unit="rounds") as tell:
        tell(3)
        tell(8)
    assert not stream.getvalue()


def test_a_pipe_gets_a_line_every_half_minute(written, monkeypatch):
    stream = written(terminal=False)
    clock = iter([0.0, 29.0, 31.0, 60.0, 62.0, 92.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with progress("4 runs", 12, unit="rounds", done=2) as tell:
        for done in (3, 4, 5, 6, 12):
            tell(done, "mixup")
    assert stream.getvalue().splitlines() == [
        "4 runs: 4 of 12 rounds, 0:31, about 2:04 left mixup",
        "4 runs: 6 of 12 rounds, 1:02, about 1:33 left mixup",
        "4 runs: 12 of 12 rounds, 1:32 mixup",
    ]


def test_an_estimate_replaces_the_count_of_units(written, monkeypatch):
    stream = written(terminal=False)
    clock = iter([0.0, 60.0, 120.0, 180.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    estimates = iter([None, 4000.0])
    with progress("4 runs", 8, unit="rounds", left=lambda: next(estimates)) as tell:
        for done in (1, 2, 8):
            tell(done)
    assert stream.getvalue().splitlines() == [
        "4 runs: 1 of 8 rounds, 1:00",
        "4 runs: 2 of 8 rounds, 2:00, about 1:06:40 left",
        "4 runs: 8 of 8 rounds, 3:00",
    ]


@pytest.mark.parametrize(("seconds", "shown"), [(None, "left: -:--"), (90.0, "left: 1:30")])
def test_a_bar_shows_the_estimate(written, seconds, shown):
    stream = written(terminal=True)
    with progress("4 runs", 8, unit="rounds", left=lambda: seconds) as tell:
        tell(2)
    assert shown in Text.from_ansi(stream.getvalue()).plain


def test_a_terminal_gets_a_bar_that_goes(written):
    stream = written(terminal=True)
    with progress("4 runs", 8, unit="rounds", done=2) as tell:
        tell(8, "the last one")
    text = stream.getvalue()
    assert "4 runs" in text
    assert "8/8" in text
    assert "rounds" in text
    assert "the last one" in text


class Kernel:
    """As much of IPython as a notebook shows itself by."""

    def __init__(self):
        self.shown = []
        shell = type("ZMQInteractiveShell", (), {})()
        self.get_ipython = lambda: shell
        self.display = SimpleNamespace(HTML=lambda text: text, display=self._display)

    def _display(self, text, display_id):
        assert display_id
        self.shown.append(text)
        return SimpleNamespace(update=self._update)

    def _update(self, text):
        self.shown[-1] = text


@pytest.fixture
def kernel(monkeypatch):
    made = Kernel()
    monkeypatch.setitem(sys.modules, "IPython", made)
    monkeypatch.setitem(sys.modules, "IPython.display", made.display)
    return made


def test_a_notebook_gets_one_line_that_is_replaced(kernel, monkeypatch):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    assert in_notebook()
    seen = []
    with progress("<4> runs", 8, unit="rounds") as tell:
        for done in (2, 4, 8):
            tell(done)
            seen += kernel.shown
    assert len(kernel.shown) == 1
    assert seen[0] == "&lt;4&gt; runs: 2 of 8 rounds, 0:10, about 0:30 left"
    assert seen[2] == "&lt;4&gt; runs: 8 of 8 rounds, 0:30"


def test_a_notebook_is_not_flooded(kernel, monkeypatch):
    monkeypatch.setattr(module.time, "monotonic", lambda: 1.0)
    with progress("run", 1_000, unit="rounds") as tell:
        tell(1)
        before = kernel.shown[-1]
        tell(2)
        assert kernel.shown[-1] == before
    assert "1000 of 1000" in kernel.shown[-1]


def test_an_inner_task_shows_no_progress(kernel):
    with progress("4 runs", 4, unit="rounds") as outer:
        for run in range(4):
            with progress(f"run {run}", 1, unit="rounds") as inner:
                inner(1, "inside")
            outer(run + 1)
    assert len(kernel.shown) == 1
    assert kernel.shown[0].startswith("4 runs: 4 of 4")
    with progress("after it", 1, unit="rounds"):
        pass
    assert len(kernel.shown) == 2


def test_a_failed_task_hides_no_later_one(kernel):
    with pytest.raises(RuntimeError), progress("fails", 1, unit="rounds"):
        raise RuntimeError
    with progress("next", 1, unit="rounds"):
        pass
    assert kernel.shown[-1].startswith("next: 1 of 1")


def test_a_comparison_in_a_notebook_is_one_line(kernel, tmp_path):
    compare(small(rounds=1), ["none", "pruning"], seeds=2, out=tmp_path / "c", processes=1)
    assert len(kernel.shown) == 1
    assert kernel.shown[0].startswith("4 runs: 4 of 4 rounds")


def test_a_terminal_gets_one_bar(written):
    stream = written(terminal=True)
    with progress("outer", 1, unit="runs"), progress("inner", 3, unit="rounds") as tell:
        tell(2)
    assert "outer" in stream.getvalue()
    assert "inner" not in stream.getvalue()


def test_a_plain_process_is_no_notebook():
    assert not in_notebook()
