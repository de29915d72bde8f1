"""What is said about noise and about a second run follows from what was scheduled."""

import json

import pytest

from fedlab.results.folder import RunFolder
from fedlab.scenario.reproducibility import noise_source, repeatability
from tests.federations import small

SEEDED = small(defenses=[{"name": "dp-sgd"}])
SECURE = small(defenses=[{"name": "dp-sgd", "secure_noise": True}])


def test_run_without_noise_is_reproducible():
    assert repeatability([small()]) == (
        "On the same kind of device the result of another run is the same, bit for bit."
    )


def test_seeded_noise_is_redrawn_after_a_kill():
    for entry in ({"name": "dp-sgd"}, {"name": "clip-noise", "noise_multiplier": 1.0}):
        text = repeatability([small(defenses=[entry])])
        assert "bit for bit, unless a round was cut off by a kill" in text
        assert "Noise of defenses is seeded: right for a simulation" in text


def test_seeded_augmentation_is_reproducible():
    text = repeatability([small(defenses=[{"name": "mixup"}])])
    assert "kill" not in text
    assert "seeded" in text


def test_time_budgets_are_not_reproducible():
    assert "but for what attacks with a time budget (seconds) rebuild" in repeatability(
        [small(reconstructions=[{"seconds": 1.0}])]
    )


@pytest.mark.parametrize("scenarios", [[SECURE], [small(), SEEDED, SECURE]])
def test_system_noise_is_not_reproducible(scenarios):
    text = repeatability(scenarios)
    assert "bit for bit" not in text
    assert "secure_noise" in text
    assert noise_source(scenarios).startswith("that of dp-sgd from the operating system")


def test_run_records_its_noise_source(tmp_path):
    for name, scenario in (("seeded", SEEDED), ("secure", SECURE)):
        run = RunFolder.create(tmp_path / name, scenario)
        facts = json.loads((run.path / "environment.json").read_text())
        assert facts["dp_noise"] == noise_source([scenario])
