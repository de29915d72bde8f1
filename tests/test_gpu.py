"""The quickstart on a CUDA device: everything lives there, and results agree with the CPU's."""

import pytest
import torch

from fedlab import Federation, Scenario

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA device here"),
]


def toggled_run(device):
    """Open, DP-SGD, DP-InstaHide and open rounds, switched by hand."""
    scenario = Scenario.load("quickstart", [f"engine.device={device}"])
    federation = Federation(scenario.changed(defenses=(), rounds=4))
    rounds = [federation.step()]
    federation.toggle("dp-sgd", on=True, clients="0-1", noise_multiplier=1.0)
    rounds.append(federation.step())
    federation.toggle("dp-sgd", on=False, clients="0-1")
    federation.toggle("dp-instahide", on=True, clients="0-1", k=4)
    rounds.append(federation.step())
    federation.toggle("dp-instahide", on=False, clients="0-1")
    rounds.append(federation.step())
    return federation, rounds


@pytest.fixture(scope="module")
def both():
    return toggled_run("cuda"), toggled_run("cpu")


def test_images_network_and_attacker_are_on_the_device(both):
    federation = both[0][0]
    site = federation.site
    assert site.data.train_images.is_cuda
    assert site.data.test_images.is_cuda
    assert all(parameter.is_cuda for parameter in site.model.parameters())
    assert federation.reconstruct(round=1, client=0, iterations=5).reconstruction.images.is_cuda


def test_rounds_agree_with_the_cpu(both):
    (_, on_gpu), (_, on_cpu) = both
    for one, other in zip(on_gpu, on_cpu, strict=True):
        assert one.model.accuracy == pytest.approx(other.model.accuracy, abs=0.03)
        assert one.model.loss == pytest.approx(other.model.loss, rel=0.05, abs=0.02)
        # Noise differs between devices, accounting does not.
        assert [row.epsilon_total for row in one.ledger] == [
            row.epsilon_total for row in other.ledger
        ]
        assert [row.defenses for row in one.clients] == [row.defenses for row in other.clients]


def test_leaks_agree_with_the_cpu(both):
    (_, on_gpu), (_, on_cpu) = both
    for one, other in zip(on_gpu, on_cpu, strict=True):
        assert [row.verdict for row in one.leakage] == [row.verdict for row in other.leakage]
        assert all(row.signal_cosine > 0.9999 for row in one.leakage)
    assert min(row.psnr for row in on_gpu[0].leakage) > 30


def test_the_same_device_gives_the_same_bits(both):
    again, _ = toggled_run("cuda")
    for name, value in again.state.items():
        assert torch.equal(value, both[0][0].state[name]), name
