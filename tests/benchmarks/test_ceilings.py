"""No measured identification lies above its ceiling, and missing noise would."""

import pytest

from benchmarks.ceilings import NOISES, ONE, SAMPLED, measure
from benchmarks.ceilings_picture import Arm, ceilings_picture
from fedlab.defenses.private_gradient import PrivateGradient
from tests.report.legible import assert_legible


@pytest.mark.slow
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(("setting", "seeds"), [(ONE, 4), (SAMPLED, 2)], ids=["one", "sampled"])
def test_identification_is_below_its_ceiling(setting, seeds, noise):
    """The best attacker on 192 or 768 images: a test of accountant, sampler and noise."""
    for share in measure(setting, noise, seeds=seeds, rebuild=False):
        assert share.images >= 192
        assert share.low <= share.ceiling
        # A weaker attacker would test nothing; at noise 2 the ceiling itself is near chance.
        assert noise > 1 or share.share > 1.4 / share.pool


@pytest.mark.slow
@pytest.mark.parametrize("setting", [ONE, SAMPLED], ids=["one", "sampled"])
def test_half_of_the_noise_is_noticed(setting, monkeypatch):
    made = PrivateGradient.__init__

    def quieter(self, *args, **settings):
        settings["noise_multiplier"] /= 2
        made(self, *args, **settings)

    monkeypatch.setattr(PrivateGradient, "__init__", quieter)
    found = measure(setting, 1.0, seeds=2, rebuild=False)
    assert all(share.low > share.ceiling for share in found)


def test_picture_of_ceilings_is_legible():
    shares = measure(ONE, 1.0, seeds=1, rebuild=False)
    arms = [Arm(ONE.name, [share]) for share in shares]
    assert_legible(ceilings_picture(arms))
