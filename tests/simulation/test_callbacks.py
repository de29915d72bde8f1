"""Callbacks: their order, what an error in one of them costs, and what they see."""

import pytest
import torch

from fedlab import BadInput, Callback, Federation
from fedlab.results.checkpoint import Checkpoint
from tests.federations import finished, small

LEAK = {"role": "leaking", "clients": "0"}
ATTACK = {"clients": "0", "iterations": 5, "rounds": "2"}


class Noted(Callback):
    """Notes every call, with the number of the round that is safe on disk by then."""

    def __init__(self):
        self.calls = []

    def note(self, hook, federation, *facts):
        path = federation.folder.checkpoint
        safe = Checkpoint.round_of(path) if path.is_file() else 0
        self.calls.append((hook, federation.round, safe, *facts))

    def on_start(self, federation):
        self.note("start", federation)

    def on_captures(self, federation, captures):
        self.note("captures", federation, len(captures))

    def on_leaks(self, federation, leaks):
        self.note("leaks", federation, len(leaks))

    def on_round(self, federation, result):
        self.note("round", federation, result.model.round)

    def on_end(self, federation):
        self.note("end", federation)


def test_hooks_are_called_in_order():
    noted = Noted()
    finished(small(rounds=2, roles=[LEAK], reconstructions=[ATTACK]), callbacks=[noted])
    assert noted.calls == [
        ("start", 0, 0),
        ("captures", 1, 0, 4),
        ("leaks", 1, 0, 0),
        ("round", 1, 1, 1),
        ("captures", 2, 1, 4),
        ("leaks", 2, 1, 1),
        ("round", 2, 2, 2),
        ("end", 2, 2),
    ]


def test_resumed_run_starts_its_own_callbacks(tmp_path):
    Federation(small(rounds=2), out=tmp_path / "run").step()
    noted = Noted()
    federation = Federation.resume(tmp_path / "run", callbacks=[noted])
    assert noted.calls == []
    federation.run()
    assert [call[0] for call in noted.calls] == ["start", "captures", "leaks", "round", "end"]
    assert noted.calls[0] == ("start", 1, 1)


class Broken(Callback):
    """Raises in one hook."""

    def __init__(self, hook):
        setattr(self, hook, self.fail)

    def fail(self, *_):
        raise KeyError("no such thing")


@pytest.mark.parametrize("hook", ["on_captures", "on_leaks", "on_round", "on_end"])
def test_failing_callback_costs_a_warning_not_the_run(hook, caplog):
    scenario, noted = small(rounds=2), Noted()
    federation = finished(scenario, callbacks=[Broken(hook), noted])
    assert f"callback Broken failed in {hook} of round 2: KeyError" in caplog.text
    assert len(noted.calls) == 8
    expected = finished(scenario).state
    assert all(torch.equal(federation.state[name], expected[name]) for name in expected)


def test_callback_that_cannot_start_is_left_out(caplog):
    class Unstarted(Noted):
        def on_start(self, federation):
            raise RuntimeError("no server")

    unstarted = Unstarted()
    finished(small(rounds=1), callbacks=[unstarted])
    assert "callback Unstarted failed in on_start" in caplog.text
    assert "left out of this run" in caplog.text
    assert unstarted.calls == []


def test_bad_input_at_the_start_stops_the_run():
    class Refusing(Callback):
        def on_start(self, federation):
            raise BadInput("no key is set")

    federation = Federation(small(rounds=1), callbacks=[Refusing()])
    with pytest.raises(BadInput, match="no key is set"):
        federation.run()
    assert federation.round == 0


def test_essential_callback_stops_the_run(tmp_path):
    class Needed(Broken):
        essential = True

    scenario = small(rounds=2)
    federation = Federation(scenario, out=tmp_path / "run", callbacks=[Needed("on_round")])
    with pytest.raises(KeyError):
        federation.run()
    assert Federation.resume(tmp_path / "run").round == 1


def test_errors_of_on_round_stop_the_run(tmp_path):
    def stop(result):
        raise StopIteration(result.model.round)

    with pytest.raises(StopIteration):
        Federation(small(rounds=2), out=tmp_path / "run", on_round=stop).run()
    assert Federation.resume(tmp_path / "run").round == 1


def test_callback_may_toggle_a_defense():
    class Switch(Callback):
        def on_round(self, federation, result):
            if result.model.round == 1:
                federation.toggle("dp-sgd", on=True, clients=[2])

    table = finished(small(rounds=2), callbacks=[Switch()]).folder.table("clients")
    assert table[table["client"] == 2]["defenses"].tolist() == ["none", "dp-sgd"]


@pytest.mark.parametrize("thing", [print, Noted])
def test_what_is_no_callback_is_refused(thing):
    with pytest.raises(BadInput, match="is no callback"):
        Federation(small(rounds=1), callbacks=[thing])
