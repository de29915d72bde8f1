"""Trackers: chosen in the scenario, called every round, and never able to stop a run."""

import pytest
import torch

from fedlab import BadInput, Federation, Scenario
from fedlab.core.trackers import Tracker
from fedlab.simulation.tracking import tracked_rounds
from tests.federations import finished, small

LOGGED = []
"""Every call of a ``Listed`` tracker."""


class Listed(Tracker):
    """Appends every call to a list."""

    project: str = "none"

    def start(self, run):
        LOGGED.append((self.project, run.name, run.done))

    def log(self, round, scalars, images):
        LOGGED.append((round, dict(scalars), dict(images)))

    def finish(self):
        LOGGED.append("finished")


class Failing(Tracker):
    """Raises in every round."""

    def log(self, round, scalars, images):
        raise ConnectionError("no route")


@pytest.fixture(autouse=True)
def _empty():
    LOGGED.clear()


LISTED = "tests.simulation.test_tracking:Listed"
SCENARIO = small(
    rounds=2,
    roles=[{"role": "leaking", "clients": "0"}, {"role": "poisoning", "clients": "3"}],
    defenses=[{"name": "dp-sgd", "clients": "1"}],
    reconstructions=[{"clients": "0", "iterations": 3, "preset": "fast", "rounds": "2"}],
)


def test_tracker_receives_what_the_run_folder_says():
    scenario = SCENARIO.changed(trackers=[{"name": LISTED, "project": "mine"}])
    folder = finished(scenario).folder
    assert LOGGED[0] == ("mine", "small", 0)
    assert LOGGED[-1] == "finished"
    for (round, scalars, images), expected in zip(
        LOGGED[1:-1], tracked_rounds(folder), strict=True
    ):
        assert round == expected.round
        assert scalars == pytest.approx(dict(expected.scalars), nan_ok=True)
        assert images.keys() == expected.images.keys()
        assert all(torch.equal(images[tag], expected.images[tag]) for tag in images)
    assert len(LOGGED[3][2]) == 1


def test_resumed_run_says_how_far_it_is(tmp_path):
    Federation(small(rounds=2, trackers=[LISTED]), out=tmp_path / "run").step()
    LOGGED.clear()
    Federation.resume(tmp_path / "run").run()
    assert LOGGED[0] == ("none", "small", 1)
    assert [call[0] for call in LOGGED[1:-1]] == [2]


def test_failing_tracker_costs_a_warning_not_the_run(caplog):
    name = "tests.simulation.test_tracking:Failing"
    scenario = small(rounds=2)
    tracked = finished(scenario.changed(trackers=[name]))
    assert f'tracker "{name}" failed in on_start' in caplog.text
    assert "no route" in caplog.text
    plain = finished(scenario).state
    assert all(torch.equal(tracked.state[key], plain[key]) for key in plain)


def test_scenario_keeps_trackers_with_their_settings():
    scenario = small(trackers=["tensorboard", {"name": LISTED, "project": "x"}])
    assert Scenario.parse(scenario.to_toml()) == scenario
    assert [each.key for each in scenario.trackers] == ["tensorboard", LISTED]
    assert scenario.trackers[1].project == "x"


@pytest.mark.parametrize(
    ("tracker", "sentence"),
    [
        ("tensorbord", 'did you mean "tensorboard"'),
        ("tests.federations:small", "is no subclass of fedlab.core.trackers.Tracker"),
        ({"name": LISTED, "projekt": "x"}, "projekt"),
    ],
)
def test_unknown_trackers_and_settings_are_refused(tracker, sentence):
    with pytest.raises(BadInput, match=sentence):
        small(trackers=[tracker])


def test_tensorboard_writes_into_the_run_folder(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    Federation(small(rounds=2, trackers=["tensorboard"]), out=tmp_path / "run").step()
    Federation.resume(tmp_path / "run").run()
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("model/accuracy")] == [0, 1, 2]


def test_missing_tensorboard_stops_the_run_at_once(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match="TensorBoard is not installed"):
        finished(small(rounds=1, trackers=["tensorboard"]))


class Refusing(Listed):
    """A tracker whose server is not there."""

    def start(self, run):
        raise BadInput("the server of the tracker is not there")


@pytest.mark.parametrize("existed", [False, True])
def test_a_refused_run_leaves_no_folder(fedlab, tmp_path, existed):
    (tmp_path / "s.toml").write_text(small(rounds=1, trackers=[f"{__name__}:Refusing"]).to_toml())
    if existed:
        (tmp_path / "run").mkdir()
    code, _, err = fedlab("run", "s.toml", "--out", "run")
    assert (code, "is not there" in err) == (2, True)
    assert not (tmp_path / "run").exists()
