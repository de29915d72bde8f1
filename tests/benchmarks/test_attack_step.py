"""The minimal step and ours do the same, and one network is measured from end to end."""

from functools import partial
from statistics import median

import pytest
import torch

from benchmarks import attack_step
from benchmarks.attack_step import SHAPE, minimal_steps, noise_victim, our_steps
from benchmarks.options import Options
from fedlab.models import build

small = partial(build, "convnet", shape=SHAPE, classes=10, width=4)


@pytest.mark.parametrize("tv", [0.0, 0.1])
def test_minimal_steps_and_ours_end_in_the_same_images(tv):
    one = noise_victim(small().eval(), 2)
    first = 2 * torch.rand(one.pixels.shape, generator=torch.Generator().manual_seed(1)) - 1
    minimal, ours = (steps(one, first, 3, tv=tv) for steps in (minimal_steps, our_steps))
    assert not torch.allclose(minimal, first, atol=0.05)
    # A sign may differ where a derivative is close to 0.
    assert float((minimal - ours).abs().lt(1e-4).float().mean()) > 0.99


def test_every_network_takes_the_images():
    for make in attack_step.KINDS.values():
        assert make().eval()(torch.zeros(2, *SHAPE)).shape == (2, 10)


def test_ratios_of_one_network_are_reported(monkeypatch):
    monkeypatch.setattr(attack_step, "KINDS", {"small": small})
    monkeypatch.setattr(attack_step, "SIZES", (1,))
    monkeypatch.setattr(attack_step, "BLOCK", 0.01)
    threads = torch.get_num_threads()
    try:
        report = attack_step.run(Options(repeats=2))
    finally:
        torch.set_num_threads(threads)
    values = {figure.name: figure.values for figure in report.figures}
    assert all(len(found) == 2 for found in values.values())
    assert len(values) == 7
    (claim,) = report.claims
    ratio = median(values["small, batch of 1: ours / minimal"])
    assert claim.holds is (ratio <= attack_step.MOST)
