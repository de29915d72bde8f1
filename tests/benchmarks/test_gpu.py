"""The benchmark of local training runs on a CPU, where a recorded run is the plain one."""

import numpy as np
import pytest
import torch

from benchmarks import bare, gpu
from benchmarks.fresh import Fresh
from benchmarks.gpu import Size, run
from benchmarks.options import Options
from fedlab import Federation
from tests.federations import small


def test_the_bare_loop_samples_the_same_cohorts():
    scenario = small("rounds=3", "data.clients=8", "server.cohort=3")
    federation = Federation(scenario)
    federation.run()
    *_, last = bare.rounds(scenario)
    for name, value in federation.state.items():
        assert torch.equal(value, last.state[name]), name


@pytest.fixture
def images(tmp_path):
    """A file of a few colour images of ten classes."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), np.uint8)
    sets = {"train_images": pixels[:40], "test_images": pixels[40:]}
    labels = {"train_labels": np.arange(40) % 10, "test_labels": np.arange(20) % 10}
    np.savez(tmp_path / "images.npz", **sets, **labels)
    return tmp_path / "images.npz"


@pytest.mark.slow
def test_all_ways_are_measured_beside_the_bare_loop(images, monkeypatch):
    monkeypatch.setattr(gpu, "fresh", lambda racer, given: Fresh(racer(given), 0.0, 0.0))
    size = Size(rounds=3, clients=4, cohort=2, width=8, batch_size=5)
    report = run(Options(repeats=1, data=images), size)
    names = [figure.name for figure in report.figures if figure.unit == "s"]
    assert names == [
        f"{way}: a later round"
        for way in ("bare loop", "one after another", "recorded", "in lockstep", "dp-sgd")
    ]
    assert all(figure.values[0] > 0 for figure in report.figures if figure.unit == "s")
    same = [claim.holds for claim in report.claims if "bit for bit" in claim.text]
    assert same == [True] * 5
