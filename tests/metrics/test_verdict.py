import math

import pytest

from fedlab.metrics.verdict import grade, setting


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "leaks"),
        ({"power": 0.1}, "leaks"),
        ({"psnr": 17.999}, "not shown"),
        ({"psnr": 60.0, "nearest": False}, "not shown"),
        ({"psnr": 17.999, "p_value": 0.01}, "recognisable"),
        ({"psnr": 17.999, "p_value": 0.01, "power": 0.1}, "recognisable"),
        ({"psnr": 17.999, "p_value": 0.02, "power": 0.5}, "not shown"),
        ({"psnr": 17.999, "p_value": 0.02, "power": 0.49}, "inconclusive"),
        ({"psnr": math.nan}, "inconclusive"),
        ({"chance_psnr": math.nan}, "inconclusive"),
    ],
)
def test_grade(given: dict[str, float], expected: str) -> None:
    assert grade(**{"psnr": 18.0, "chance_psnr": 15.0, "nearest": True} | given) == expected


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
