"""The benchmark of several rounds: its ways of attack, its figures, and what it claims of them."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from benchmarks import joint
from benchmarks.joint import Outcome, Way
from benchmarks.options import Options


def test_only_few_local_steps_are_simulated_one_by_one():
    steps = {epochs: {way.local_steps for way in joint.ways(4, epochs)} for epochs in (5, 6)}
    assert steps[5] - steps[6] == {"unroll"}


@pytest.mark.parametrize(("best", "holds"), [(20.0, True), (9.0, False)])
def test_a_surrogate_point_that_gains_nothing_is_reported(best, holds):
    def outcome(psnr):
        return Outcome([psnr], [8.0], 0, 1.0, 0.1)

    found = {str(Way(1, 1, "gradient")): outcome(10.0), str(Way(1, 1, "surrogate")): outcome(best)}
    (claim,) = joint._claims({"digits, 4 images, 5 epochs at 0.004": [found]})
    assert claim.holds is holds


@pytest.mark.slow
def test_all_rows_are_measured(tmp_path, monkeypatch):
    digits = load_digits()
    images = (digits.images * 255 / 16).round().astype(np.uint8)[..., None]
    arrays = {"train_images": images[:200], "train_labels": digits.target[:200]}
    arrays |= {"test_images": images[200:500], "test_labels": digits.target[200:500]}
    np.savez(tmp_path / "digits.npz", **arrays)
    monkeypatch.setattr(joint, "SETS", ("digits",))
    monkeypatch.setattr(joint, "CELLS", (("digits", 4, None), ("digits", 4, (2, 0.01))))
    monkeypatch.setattr(joint, "PUBLIC", 300)
    monkeypatch.setattr(joint, "MANY", 4)
    attack = joint.replace(joint.ATTACK, iterations=2)
    monkeypatch.setattr(joint, "ATTACK", attack)
    report = joint.run(Options(repeats=1, data=tmp_path))
    values = {figure.name: figure.values for figure in report.figures}
    arm = "digits, 4 images, 2 epochs at 0.01"
    assert len(values[f"{arm}, surrogate, 4 rounds: PSNR"]) == 4
    assert 0 < values[f"{arm}: mismatch"][0] < 1
    assert len(values[f"digits, 4 images, {joint.ONE_BATCH}, unroll, 8 rounds: PSNR"]) == 4
    assert len(report.claims) == 2
