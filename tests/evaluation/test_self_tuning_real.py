"""What the untuned attack misses on real images, and the attack that tunes itself finds."""

import pytest

from fedlab.scenario.scenario import Scenario
from fedlab.simulation.federation import Federation
from tests import real_images

pytestmark = pytest.mark.long
CLIENTS = 4


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cifar")
    return f"npz:{real_images.npz('cifar10', folder, '--train', '2000', '--test', '1000')}"


def attacked(source, preset, *, width, adapt=True, defenses=()):
    """Scores of four clients' single images under an attack of 100 iterations."""
    scenario = Scenario().changed(
        rounds=1,
        data={"source": source, "clients": CLIENTS},
        model={"name": "convnet", "width": width},
        roles=[{"role": "leaking", "batch_size": 1}],
        defenses=list(defenses),
        reconstructions=[
            {"preset": preset, "adapt": adapt, "iterations": 100, "power": preset == "auto"}
        ],
    )
    federation = Federation(scenario)
    federation.run()
    rows = federation.folder.table("leakage")
    return rows[rows["target"] == "original"]


def leaks(rows):
    return int((rows["verdict"] == "leaks").sum())


def test_a_narrow_network_leaks_to_tuned_weights(photographs):
    untuned = attacked(photographs, "fast", width=8)
    tuned = attacked(photographs, "auto", width=8)
    assert leaks(untuned) == 0
    assert leaks(tuned) >= CLIENTS / 2
    assert tuned["psnr"].mean() >= untuned["psnr"].mean() + 8
    assert (tuned["power"] >= 0.5).all()


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_low_noise_hides_no_more_from_auto(photographs, noise):
    defense = {"name": "dp-sgd", "noise_multiplier": noise, "clipping_norm": 1.0}
    given = {"width": 16, "defenses": [defense]}
    tuned = attacked(photographs, "auto", **given)
    assert leaks(tuned) > 0
    for adapt in (True, False):
        assert leaks(tuned) >= leaks(attacked(photographs, "fast", adapt=adapt, **given))
