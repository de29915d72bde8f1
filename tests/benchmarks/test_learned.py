"""The benchmark of the learned inverter: its figures, and when it reports a broken ceiling."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from benchmarks import learned
from benchmarks.learned import AUTO, DP_SGD, LEARNED, Arm
from benchmarks.options import Options


def rows(*, identified, psnr=10.0):
    fixed = {"ceiling_identified": 0.2, "psnr": psnr, "ceiling_psnr": 20.0}
    return [SimpleNamespace(iip=float(place < identified), **fixed) for place in range(40)]


@pytest.mark.parametrize(
    ("found", "above"),
    [
        (rows(identified=0), False),
        (rows(identified=12), False),  # more than 8, but within the interval
        (rows(identified=30), True),
        (rows(identified=0, psnr=21.0), True),
    ],
)
def test_an_attack_above_the_ceiling_is_reported(found, above):
    assert Arm("digits, DP-SGD", DP_SGD, {LEARNED: found}).above_ceiling(LEARNED) is above


@pytest.fixture
def digits(tmp_path, monkeypatch):
    """Digits as an .npz file, and a benchmark that takes seconds."""
    found = load_digits()
    images = (found.images * 255 / 16).round().astype(np.uint8)[..., None]
    arrays = {"train_images": images[:200], "train_labels": found.target[:200]}
    arrays |= {"test_images": images[200:500], "test_labels": found.target[200:500]}
    np.savez(tmp_path / "digits.npz", **arrays)
    monkeypatch.setattr(learned, "SETS", ("digits",))
    monkeypatch.setattr(learned, "PUBLIC", 300)
    for name, value in (("EXAMPLES", 40), ("EPOCHS", 1), ("ITERATIONS", 2), ("TUNING", 4)):
        monkeypatch.setattr(learned, name, value)
    arms = {name: learned.DEFENSES[name] for name in ("signs", DP_SGD)}
    monkeypatch.setattr(learned, "DEFENSES", arms)
    return tmp_path


def test_both_attackers_are_measured_on_all_images(digits):
    report = learned.run(Options(repeats=3, data=digits))
    values = {figure.name: figure.values for figure in report.figures}
    for arm in ("digits, signs", f"digits, {DP_SGD}"):
        for preset in (LEARNED, AUTO):
            assert len(values[f"{arm}, {preset}: PSNR"]) == 3
            assert values[f"{arm}, {preset}: preparation"][0] > 0
    assert len(values[f"digits, {DP_SGD}, {LEARNED}: identified"]) == 3
    assert 0 < values[f"digits, {DP_SGD}: ceiling of identified"][0] < 1
    assert report.holds
