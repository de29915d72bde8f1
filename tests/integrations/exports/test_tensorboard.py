"""TensorBoard files contain every number and picture of a run."""

import importlib.util
import io
import math

import numpy as np
import pytest
from PIL import Image

from fedlab import BadInput
from fedlab.evaluation.leaks import load_leaks
from fedlab.integrations.exports.tensorboard import write_events
from fedlab.results.folder import RunFolder
from fedlab.simulation.tracking import tracked_rounds
from tests.federations import finished, small

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="TensorBoard is not installed"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    scenario = small(
        rounds=2,
        model={"name": "mlp"},
        roles=[
            {"role": "leaking", "clients": "0", "batch_size": 2},
            {"role": "poisoning", "clients": "3"},
        ],
        defenses=[{"name": "dp-sgd", "clients": "1"}],
        reconstructions=[
            {"clients": "0", "iterations": 3, "preset": "fast", "rounds": "2"},
            {"clients": "0", "iterations": 5, "preset": "fast", "rounds": "2"},
            {"clients": "0", "preset": "analytic", "labels": "inferred", "rounds": "2"},
        ],
    )
    folder = tmp_path_factory.mktemp("events") / "run"
    finished(scenario, out=folder)
    return RunFolder.open(folder)


@pytest.fixture(scope="module")
def events(run, tmp_path_factory):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path_factory.mktemp("written") / "events"
    write_events(run, folder)
    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def scalars_of(run):
    return {
        (tag, each.round): value
        for each in tracked_rounds(run)
        for tag, value in each.scalars.items()
    }


def test_the_file_holds_every_number_at_its_round(run, events):
    written = {
        (tag, event.step): event.value
        for tag in events.Tags()["scalars"]
        for event in events.Scalars(tag)
    }
    expected = scalars_of(run)
    assert written.keys() == expected.keys()
    assert [written[key] for key in expected] == pytest.approx(list(expected.values()), nan_ok=True)


def test_what_there_is(run, events):
    rounds = run.rounds()
    tags = set(events.Tags()["scalars"])
    assert tags == {
        "model/accuracy",
        "model/loss",
        "model/worst recall",
        "model/attack success rate",
        "model/attack success by chance",
        "PSNR/client 0, fast, labels known",
        "PSNR/client 0, analytic, labels inferred",
        "chance/client 0, fast, labels known",
        "chance/client 0, analytic, labels inferred",
        *(f"epsilon/client {client}" for client in range(4)),
    }
    accuracy = [event.value for event in events.Scalars("model/accuracy")]
    assert accuracy == pytest.approx([row.accuracy for row in rounds])
    leakage = run.table("leakage")
    fast = leakage[leakage["preset"] == "fast"]
    better = fast.groupby("image").max(numeric_only=True)  # of two entries of one attack
    (psnr,) = events.Scalars("PSNR/client 0, fast, labels known")
    assert (psnr.step, psnr.value) == (2, pytest.approx(better["aligned_psnr"].median(), rel=1e-5))
    (chance,) = events.Scalars("chance/client 0, fast, labels known")
    assert (chance.step, chance.value) == (2, pytest.approx(fast["chance_psnr"].median(), rel=1e-5))
    assert [event.value for event in events.Scalars("epsilon/client 0")] == [math.inf] * 2
    first, second = (event.value for event in events.Scalars("epsilon/client 1"))
    ledger = run.table("ledger")
    assert [first, second] == pytest.approx(
        ledger[ledger["client"] == 1]["epsilon_total"].tolist(), rel=1e-5
    )


def test_the_pictures_are_those_of_the_run(run, events):
    tags = [
        f"reconstruction/client 0, {attack}"
        for attack in ("fast, labels known", "fast, labels known, 2", "analytic, labels inferred")
    ]
    assert sorted(events.Tags()["images"]) == sorted(tags)
    for tag, leak in zip(tags, load_leaks(run.leaks(2)), strict=True):
        (event,) = events.Images(tag)
        assert event.step == 2
        picture = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)).convert("L")) / 255
        height, width = leak.originals.shape[2:]
        assert picture.shape == (2 * height, 2 * width)
        for place in range(2):
            columns = slice(place * width, (place + 1) * width)
            truth = leak.originals[place, 0].numpy()
            guess = leak.rebuilt[place, 0].nan_to_num(0).clamp(0, 1).numpy()
            assert np.abs(picture[:height, columns] - truth).max() < 0.01
            assert np.abs(picture[height:, columns] - guess).max() < 0.01


def test_malicious_server_has_its_own_tag(tmp_path):
    scenario = small(
        rounds=1,
        server={"malicious": {"attack": "imprint", "bins": 16}},
        roles=[{"role": "leaking", "clients": "0", "batch_size": 2}],
        reconstructions=[{"clients": "0", "preset": "fast", "iterations": 3}],
    )
    run = finished(scenario, out=tmp_path / "run").folder
    whose = "client 0, imprint, labels inferred, malicious server"
    assert f"PSNR/{whose}" in {tag for tag, _ in scalars_of(run)}
    assert f"reconstruction/{whose}" in {tag for each in tracked_rounds(run) for tag in each.images}


def test_a_second_file_in_one_folder_is_refused(run, tmp_path):
    write_events(run, tmp_path)
    with pytest.raises(BadInput, match="holds events already"):
        write_events(run, tmp_path)


def test_without_tensorboard(run, tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorboard" else found(name)
    )
    with pytest.raises(BadInput, match=r'pip install "fedlab-privacy\[tensorboard\]"'):
        write_events(run, tmp_path)
