"""The quickstart on a CUDA device: everything lives there, and results agree with the CPU's."""

from dataclasses import replace

import pytest
import torch

from attacks.gradients import batch_gradient
from attacks.knowledge import Knowledge
from attacks.payload import Payload
from attacks.reconstruction import PRESETS, invert
from fedlab import Federation, Scenario
from fedlab.data import load
from fedlab.models import build
from tests.federations import finished, small

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
    federated = federation.federated
    assert federated.data.train_images.is_cuda
    assert federated.data.test_images.is_cuda
    assert all(parameter.is_cuda for parameter in federated.model.parameters())
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


def trained(*overrides):
    """Four clients of forty digits after four rounds, with full batches and smaller last ones."""
    local = ("training.epochs=4", "training.momentum=0.9", "training.weight_decay=0.01")
    return finished(small("engine.device=cuda", *local, *overrides))


def test_recorded_training_agrees_with_the_computed():
    recorded, computed = trained("engine.cuda_graph=true"), trained()
    assert recorded.federated.recorded_steps is not None
    assert computed.federated.recorded_steps is None
    for name, value in computed.state.items():
        torch.testing.assert_close(recorded.state[name], value, rtol=1e-4, atol=1e-6)


def test_recorded_training_repeats_its_bits():
    one, again = trained("engine.cuda_graph=true"), trained("engine.cuda_graph=true")
    assert all(torch.equal(one.state[name], again.state[name]) for name in one.state)


def test_training_in_lockstep_agrees_and_repeats_its_bits():
    stacked, again = trained("engine.clients_at_once=4"), trained("engine.clients_at_once=4")
    for name, value in trained().state.items():
        torch.testing.assert_close(stacked.state[name], value, rtol=1e-4, atol=1e-6)
        assert torch.equal(stacked.state[name], again.state[name])


def test_a_network_that_cannot_be_recorded_is_trained(caplog):
    nosy = {"name": "factory", "factory": "tests.test_gpu:nosy"}
    federation = Federation(small("engine.device=cuda", "engine.cuda_graph=true", model=nosy))
    with caplog.at_level("INFO"):
        clients = federation.step().clients
    assert {row.status for row in clients} == {"ok"}
    assert "the local training runs without a CUDA graph" in caplog.text


@pytest.fixture(scope="module")
def digit():
    """A network on the device, its state, and the gradient of one digit."""
    data = load("digits")
    model = build("convnet", shape=data.shape, classes=10, width=8, norm="batch", seed=0)
    model.eval().cuda()
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    images = data.normalise(data.pixels(data.train_images[:1])).cuda()
    labels = data.train_labels[:1].cuda()
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    gradient = batch_gradient(model, parameters, buffers, images, labels)
    payload = Payload("gradient", gradient, num_examples=1, steps=1)
    known = Knowledge(data.shape, 10, data.mean, data.std, 1, labels, None, training_mode=False)
    return model, state, payload, known


def rebuilt(digit, attack, **options):
    model, state, payload, known = digit
    generator = torch.Generator().manual_seed(0)
    return invert(model, state, payload, known, attack, generator=generator, **options)


@pytest.mark.parametrize("preset", ["inverting-gradients", "fast", "see-through-gradients"])
def test_a_recorded_attack_is_the_same_attack(digit, preset):
    attack = replace(PRESETS[preset], iterations=40, langevin=0.0)
    once, plain = rebuilt(digit, attack), rebuilt(digit, attack, cuda_graph=False)
    torch.testing.assert_close(once.costs, plain.costs, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(once.images, plain.images, rtol=0, atol=1e-2)


def test_restarts_side_by_side_are_those_one_by_one(digit):
    attack = replace(PRESETS["fast"], iterations=40, restarts=4)
    beside, alone = rebuilt(digit, attack, workers=4), rebuilt(digit, attack)
    assert beside.restart == alone.restart
    torch.testing.assert_close(beside.images, alone.images, rtol=0, atol=1e-2)


def nosy(shape, classes):
    """A small network that cannot be recorded."""
    return Nosy(build("mlp", shape=shape, classes=classes, width=4, seed=0))


class Nosy(torch.nn.Module):
    """Looks at its input, which nothing that is being recorded may."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, images):
        assert float(images.detach().sum()) < 1e9
        return self.inner(images)


def test_a_network_that_cannot_be_recorded_is_attacked_all_the_same(digit, caplog):
    model, state, payload, known = digit
    inner = [{f"inner.{n}": t for n, t in each.items()} for each in (state, payload.tensors)]
    nosy = Nosy(model), inner[0], replace(payload, tensors=inner[1]), known
    attack = replace(PRESETS["fast"], iterations=8)
    with caplog.at_level("INFO"):
        found = rebuilt(nosy, attack)
    assert "without a CUDA graph" in caplog.text
    torch.testing.assert_close(found.images, rebuilt(digit, attack).images, rtol=0, atol=1e-2)
