"""The benchmark of defenses that papers compare with: its arms, counts and claims."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import compared
from benchmarks.compared import ARMS, ATTACKS, CONCEALED, OPEN, _claims, _leaks, _Trained
from fedlab.metrics.verdict import LEAKS, NOT_SHOWN


def rows(leaks, psnr):
    verdicts = [LEAKS] * leaks + [NOT_SHOWN] * (8 - leaks)
    return [SimpleNamespace(verdict=verdict, aligned_psnr=psnr) for verdict in verdicts]


def results(**changes):
    """Leaks and PSNR of every arm as the definitions lead one to expect, but for changes."""
    expected = {arm: {"fast": (0, 10.0), "adaptive": (0, 10.0)} for arm in ARMS}
    expected[OPEN] = expected["learning rate"] = {"fast": (8, 30.0), "adaptive": (8, 30.0)}
    expected["OUTPOST"] = {"fast": (2, 18.0), "adaptive": (8, 22.0)}
    expected |= {arm.replace("_", " "): each for arm, each in changes.items()}
    return {
        arm: {name: rows(*numbers) for name, numbers in each.items()}
        for arm, each in expected.items()
    }


def trained(**accuracy):
    return {arm: [_Trained(accuracy.get(arm, 0.7), 1.0)] * 3 for arm in ARMS}


def test_claims_hold_as_expected():
    assert all(claim.holds for claim in _claims(trained(CENSOR=0.1), results()))


@pytest.mark.parametrize(
    ("place", "accuracy", "changes"),
    [
        (0, 0.1, {"learning_rate": {"fast": (8, 30.0), "adaptive": (7, 29.0)}}),
        (1, 0.1, {"OUTPOST": {"fast": (2, 18.0), "adaptive": (8, 20.0)}}),
        (2, 0.5, {}),
        (2, 0.1, {"CENSOR": {"fast": (0, 10.0), "adaptive": (1, 10.0)}}),
    ],
)
def test_claim_fails_where_it_is_wrong(place, accuracy, changes):
    claims = _claims(trained(CENSOR=accuracy), results(**changes))
    assert [claim.holds for claim in claims] == [n != place for n in range(len(claims))]


def test_figures_count_leaks():
    leaks, psnr = _leaks("ATS", {"auto": rows(3, 20.0)})
    assert leaks.values == [1.0] * 3 + [0.0] * 5
    assert psnr.values == [20.0] * 8


@pytest.fixture
def images(tmp_path):
    draws = np.random.default_rng(0)
    pixels = {f"{part}_images": draws.integers(0, 256, (40, 8, 8)) for part in ("train", "test")}
    labels = {f"{part}_labels": np.arange(40) % 10 for part in ("train", "test")}
    file = tmp_path / "images.npz"
    np.savez(file, **{k: v.astype(np.uint8) for k, v in pixels.items()}, **labels)
    return f"npz:{file}"


def test_concealing_images_are_compared_with(images, monkeypatch):
    monkeypatch.setattr(compared, "CLIENTS", 2)
    monkeypatch.setattr(compared, "IMAGES", 40)
    monkeypatch.setattr(compared, "ITERATIONS", 2)
    monkeypatch.setattr(compared, "ATTACKS", {"adaptive": ATTACKS["adaptive"]})
    quick = compared.Arm({"name": "dcs-2", "iterations": 3})
    monkeypatch.setattr(compared, "ARMS", {CONCEALED: quick})
    found, (hidden,) = compared.attack(images, CONCEALED, "cpu")
    assert len(found["adaptive"]) == len(hidden.values) == 2
    assert all(0 < value < 40 for value in hidden.values)


@pytest.mark.parametrize("arm", ARMS)
def test_arm_is_a_valid_scenario(arm):
    for part in (True, False):
        plan = compared.scenario("digits", arm, seed=0, trained=part, device="cpu")
        assert plan.model.width == compared.WIDTH
        assert (plan.model.bottleneck is not None) is (arm == "PRECODE")
        assert len(plan.defenses) == (arm not in (OPEN, "PRECODE"))
