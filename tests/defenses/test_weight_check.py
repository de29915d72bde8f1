"""The weight check: which weights a client answers, and what its decision costs."""

import math

import pytest
import torch

from fedlab.defenses.weight_check import WeightCheck
from fedlab.metrics.received_weights import WeightReading
from fedlab.privacy.accounts import CLIENT
from tests.federations import finished, small

MLP = ("model.name=mlp", "model.width=8")
CHECK = {"name": "weight-check", "clients": "0"}


def rows(federation, client=0):
    table = federation.folder.table("clients")
    return table[table["client"] == client]


def test_honest_weights_are_answered():
    federation = finished(small("model.width=16", rounds=2, defenses=[CHECK]))
    assert rows(federation)["status"].tolist() == ["ok"] * 2


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"most_dsnr": 1e-6}, "one image would dominate"),
        ({"images": 8, "most_dsnr": 1e9, "most_idle": 0.0}, "react to one image or none"),
    ],
)
def test_suspicious_weights_are_not_answered(limits, words):
    federation = finished(small(*MLP, rounds=1, defenses=[CHECK | limits]))
    assert rows(federation)["status"].tolist() == ["withheld"]
    assert words in rows(federation)["reason"].tolist()[0]
    assert rows(federation, client=1)["status"].tolist() == ["ok"]


def test_checked_round_has_no_epsilon():
    noise = {"name": "clip-noise", "clients": "0-1", "noise_multiplier": 4.0}
    federation = finished(small(rounds=1, defenses=[noise, CHECK]))
    assert math.isinf(federation.ledger.total(0, CLIENT))
    assert math.isfinite(federation.ledger.total(1, CLIENT))


def test_check_leaves_the_update_alone():
    plain, checked = (finished(small(rounds=2, defenses=d)) for d in ([], [CHECK]))
    assert all(torch.equal(t, checked.state[name]) for name, t in plain.state.items())


def test_few_images_are_no_reason_to_withhold():
    few = {"train": 16, "test": 40, "clients": 4}
    federation = finished(small(*MLP, rounds=1, defenses=[CHECK], data=few))
    assert rows(federation)["status"].tolist() == ["ok"]
    assert math.isinf(federation.ledger.total(0, CLIENT))


def test_limit_of_dsnr_follows_the_number_of_images():
    reading = WeightReading(dsnr=0.5, silent=0.0, single=0.0, idle=0.0, copies=0.0)
    check = WeightCheck(most_dsnr=0.3)
    assert "one image" in (check.reason(reading, images=32) or "")
    assert check.reason(reading, images=16) is None


@pytest.mark.parametrize(("images", "suspicious"), [(31, False), (32, True)])
def test_units_that_react_to_one_image_or_none_count_together_if_there_are_enough(
    images, suspicious
):
    reading = WeightReading(dsnr=0.0, silent=0.4, single=0.4, idle=0.8, copies=0.0)
    reason = WeightCheck().reason(reading, images=images)
    assert (reason is not None) is suspicious
