"""What the commands print about an attack."""

import math
from dataclasses import replace

import pytest
import torch

from attacks.reconstruction import Reconstruction
from attacks.reconstruction.presets import PRESETS
from fedlab.evaluation.leaks import Leak
from fedlab.report.tables.terminal import attack_lines
from tests.report.verdicts.test_run import NOT, ROW

IMAGES = torch.zeros(1, 1, 8, 8)


def leak(*changes, preset="fast"):
    """A leak with a row for each of some changes of a row."""
    rows = tuple(replace(ROW, preset=preset, **each) for each in changes)
    attack = PRESETS.get(preset, PRESETS["fast"])
    found = Reconstruction(
        images=IMAGES, labels=torch.zeros(1), cost=0.0, costs=torch.zeros(1), restart=0,
        attack=attack,
    )  # fmt: skip
    return Leak(rows, IMAGES, None, IMAGES, found)


def test_the_attack_is_named_with_its_rounds():
    first, _ = attack_lines(leak({"rounds_jointly": 3}, preset="spear"), None)
    assert first == "attack: preset spear, method spear, 3 rounds jointly"


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("imprint", "malicious server (imprint), images read out without a preset"),
        ("fast", "malicious server (suppression), preset fast, method optimise"),
    ],
)
def test_the_attack_of_a_malicious_server_is_named(preset, expected):
    server = preset if preset == "imprint" else "suppression"
    assert attack_lines(leak({}, preset=preset), server)[0] == f"attack: {expected}"


@pytest.mark.parametrize(
    ("power", "expected"),
    [
        (0.75, "power 0.75, the share of images that it finds at simulated clients"),
        (0.25, "power 0.25, so no image is called not shown (below 0.5)"),
        (math.nan, "power not measured"),
    ],
)
def test_power_stands_beside_the_verdict(power, expected):
    _, second = attack_lines(leak({"power": power}, {"power": power, **NOT}), None)
    assert second.startswith("verdict on 2 images: 1 leaks, 1 not shown; ")
    assert expected in second
