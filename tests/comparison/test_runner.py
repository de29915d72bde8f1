"""Unfinished runs are run, here or in other processes; a failed run stops no other."""

import os
import signal
from concurrent.futures.process import BrokenProcessPool

import pytest

from fedlab import BadInput, Federation, RunFailed
from fedlab.comparison import runner, shared_images
from fedlab.comparison.runner import finish, finished, is_over, places_of, processes_for
from fedlab.comparison.shared_images import SharedImages
from fedlab.results.folder import RunFolder
from fedlab.simulation.auditing import Verdict
from tests.comparison.test_cache_keys import DEFENSE
from tests.federations import small

IMAGES = SharedImages()


def short(seed=0, **tables):
    return small("rounds=2").changed(seed=seed, **tables)


def bytes_of(place):
    return {path: path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


# Forty images a client, of which DP-InstaHide cannot mix fifty.
IMPOSSIBLE = {"defenses": [{"name": "dp-instahide", "k": 50}]}


def assert_only_bad_fails(places, *, processes):
    failures = finish(places, IMAGES, processes=processes)
    assert list(failures) == ["bad"]
    assert "50" in failures["bad"]
    for name in places.keys() - failures:
        place, scenario = places[name]
        assert is_over(place, scenario)
        alone = Federation(scenario)
        alone.run()
        accuracies = [row.accuracy for row in RunFolder(place).rounds()]
        assert accuracies == [row.accuracy for row in alone.folder.rounds()]


def test_failed_run_does_not_stop_the_others(tmp_path):
    scenarios = {"bad": short(**IMPOSSIBLE), "one": short(0), "other": short(1)}
    assert_only_bad_fails(places_of(scenarios, tmp_path, IMAGES), processes=1)


def test_workers_use_this_folder_and_are_silent(tmp_path, monkeypatch, capfd):
    """In other processes as well; plug-ins of the working folder are found there."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # as Jupyter does: their standard error is a terminal
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "halving_beside.py").write_text(DEFENSE)
    scenarios = {"bad": short(name="loud", **IMPOSSIBLE)}
    for name, factor in (("one", 0.5), ("other", 0.25)):
        halving = {"name": "halving_beside:Halve", "factor": factor}
        scenarios[name] = short(name="loud", defenses=[halving])
    places = places_of(scenarios, tmp_path / "runs", IMAGES)
    capfd.readouterr()
    assert_only_bad_fails(places, processes=2)
    assert "loud" not in "".join(capfd.readouterr())
    for name in ("one", "other"):
        table = RunFolder(places[name][0]).table("clients")
        assert set(table["defenses"]) == {"halving_beside:Halve"}


def test_failed_run_is_named(tmp_path):
    with pytest.raises(RunFailed, match="bad: "):
        finished({"bad": short(**IMPOSSIBLE)}, tmp_path, processes=1)


def test_repetition_changes_no_file(tmp_path):
    scenarios = {"one": short(), "other": short(1)}
    finished(scenarios, tmp_path, processes=1)
    before = bytes_of(tmp_path)
    finished(scenarios, tmp_path, processes=1)
    assert bytes_of(tmp_path) == before


def test_interrupted_run_continues_others_stay(tmp_path):
    places = places_of({"done": short(), "half": short(1)}, tmp_path, IMAGES)
    assert finish({"done": places["done"]}, IMAGES, processes=1) == {}
    done = bytes_of(places["done"][0])
    place, scenario = places["half"]
    half = Federation(scenario, out=place)
    half.step()
    del half
    first = RunFolder(place).rounds()
    assert not is_over(*places["half"])
    assert finish(places, IMAGES, processes=1) == {}
    assert is_over(*places["half"])
    assert RunFolder(place).rounds()[:2] == first  # times included, so it was not run again
    assert bytes_of(places["done"][0]) == done


def dying(shape, classes):
    """A network whose making takes the process with it, as the kernel does when memory is out."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_process_is_reported(tmp_path):
    deadly = {"name": "factory", "factory": "tests.comparison.test_runner:dying"}
    places = {name: (tmp_path / name, short(model=deadly)) for name in ("one", "other")}
    with pytest.raises(RunFailed, match="was killed"):
        finish(places, IMAGES, processes=2)


def test_images_are_loaded_once_for_all_runs(tmp_path, monkeypatch):
    loaded = []
    load = shared_images.whole_images
    monkeypatch.setattr(
        shared_images, "whole_images", lambda data: loaded.append(data) or load(data)
    )
    scenarios = {"one": short(), "other": short(1, data={"train": 100, "clients": 2})}
    assert finished(scenarios, tmp_path, processes=1).keys() == scenarios.keys()
    assert len(loaded) == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_every_run_that_is_over_is_reported(tmp_path, processes):
    places = places_of(
        {"bad": short(**IMPOSSIBLE), "one": short(), "other": short(1)}, tmp_path, IMAGES
    )
    told = []
    finish(places, IMAGES, processes=processes, on_over=lambda each: told.append(dict(each)))
    assert [len(each) for each in told] == [1, 2, 3]
    assert [name for name, why in told[-1].items() if why] == ["bad"]


def test_a_run_alone_takes_the_other_cores(tmp_path, monkeypatch):
    shares = []

    def no_pool(processes, *, share):
        shares.append(share)
        raise BrokenProcessPool

    monkeypatch.setattr(runner, "pool", no_pool)
    monkeypatch.setattr(runner, "cores", lambda: 8)
    monkeypatch.setattr(runner, "room_for_processes", lambda: 6)
    places = places_of({"one": short(), "other": short(1)}, tmp_path, IMAGES)
    for count, some in ((2, places), (1, {"one": places["one"]})):
        with pytest.raises(BrokenProcessPool):
            finish(some, IMAGES, processes=8)
        assert shares.pop() == 6 // count


def test_log_of_a_run_is_written_beside_it(tmp_path, caplog):
    failing = short(training={"lr": 1e30, "batch_size": 16})
    places = places_of({"diverges": failing}, tmp_path, IMAGES)
    finish(places, IMAGES, processes=1)
    (file,) = tmp_path.glob("*.log")
    assert file.name == f"{places['diverges'][0].name}.log"
    assert file.read_text()
    assert not caplog.records


def test_number_of_processes_follows_the_cores(monkeypatch):
    monkeypatch.setattr("loky.cpu_count", lambda: 8)
    assert processes_for(small()) == 8
    assert processes_for(small("engine.threads=3")) == 2
    assert processes_for(small("engine.threads=16")) == 1
    with pytest.raises(BadInput, match="CUDA"):
        processes_for(small("engine.device=cuda:99"))


def test_plugin_of_main_runs_in_one_process():
    own = {"name": "factory", "factory": "__main__:make"}
    assert processes_for(small(model=own)) == 1


def test_plugins_of_main_are_not_sent_to_others(tmp_path):
    own = {"name": "factory", "factory": "__main__:make"}
    places = {name: (tmp_path / name, short(model=own)) for name in ("one", "other")}
    with pytest.raises(BadInput, match=r"__main__:make is defined in the notebook .* a module"):
        finish(places, IMAGES, processes=2)


def test_unexpected_error_stops_one_run_only(tmp_path, monkeypatch):
    places = places_of({"bad": short(), "good": short(1)}, tmp_path, IMAGES)
    run = Federation.run

    def runs(federation):
        if federation.scenario.seed == 0:
            raise RuntimeError("CUDA out of memory")
        return run(federation)

    monkeypatch.setattr(Federation, "run", runs)
    failures = finish(places, IMAGES, processes=1)
    assert failures == {"bad": "RuntimeError: CUDA out of memory"}
    assert is_over(*places["good"])
    assert "Traceback" in next(tmp_path.glob("bad-*.log")).read_text()


def test_contradicted_audit_is_reported_again(tmp_path, monkeypatch):
    audited = short(audit={"client": 0}, defenses=[{"name": "dp-sgd"}])
    places = places_of({"audited": audited}, tmp_path, IMAGES)
    monkeypatch.setattr(Verdict, "holds", False)
    first = finish(places, IMAGES, processes=1)
    assert "the audit contradicts the ledger" in first["audited"]
    assert is_over(*places["audited"])
    assert finish(places, IMAGES, processes=1) == first
