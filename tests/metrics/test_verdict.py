import math

import pytest

from fedlab.metrics.verdict import setting, verdict


@pytest.mark.parametrize(
    ("psnr", "identified", "expected"),
    [
        (18.0, True, "leaks"),
        (17.999, True, "not shown"),
        (60.0, False, "not shown"),
        (math.nan, True, "not shown"),
    ],
)
def test_verdict(psnr: float, identified: bool, expected: str) -> None:
    assert verdict(psnr=psnr, chance_psnr=15.0, identified=identified) == expected


def test_realistic_needs_all_five() -> None:
    real = {
        "labels_known": False,
        "steps": 2,
        "trained": True,
        "training_mode": True,
        "order_known": False,
    }
    assert setting(**real).name == "realistic"
    assert setting(**real).reasons == ()
    easier = {
        "labels_known": True,
        "steps": 1,
        "trained": False,
        "training_mode": False,
        "order_known": True,
    }
    for key, value in easier.items():
        found = setting(**(real | {key: value}))
        assert found.name == "diagnostic"
        assert len(found.reasons) == 1
    assert len(setting(**easier).reasons) == 5
