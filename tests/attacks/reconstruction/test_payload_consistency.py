"""Whether a capture is what given images would have caused, against PyTorch's own training."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from attacks.gradients import batch_gradient, clipped_gradient
from attacks.knowledge import Knowledge, LocalSGD
from attacks.payload import Payload
from attacks.reconstruction import Consistency, consistency

SHAPE = (1, 6, 6)
LOCAL = LocalSGD(0.1, momentum=0.9, weight_decay=0.01, epochs=2, batch_size=2)


def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(64, 5)]
    model = nn.Sequential(*layers)
    model[1].running_mean.normal_()
    model[1].running_var.uniform_(0.5, 2)
    return model


def batch(count=4):
    images = torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(1))
    return images, torch.arange(count) % 5


def known(labels, local=None, **more):
    return Knowledge(SHAPE, 5, (0.5,), (0.25,), len(labels), labels, local, **more)


def state(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def trained(images, labels, *, local=LOCAL, training=True):
    """What PyTorch's own optimiser makes of the network."""
    model = network().train(training)
    options = {"momentum": local.momentum, "weight_decay": local.weight_decay}
    sgd = torch.optim.SGD(model.parameters(), lr=local.lr, **options)
    steps = 0
    for _ in range(local.epochs):
        for block in torch.arange(len(images)).split(local.batch_size):
            sgd.zero_grad()
            functional.cross_entropy(model(images[block]), labels[block]).backward()
            sgd.step()
            steps += 1
    weights = {name: p.detach() for name, p in model.named_parameters()}
    return Payload("weights", weights, num_examples=len(images), steps=steps)


def held(payload, knowledge, images, labels) -> Consistency:
    model = network()
    return consistency(model, state(model), payload, knowledge, images, labels)


def gradient(images, labels):
    model = network()
    parts = dict(model.named_parameters()), dict(model.named_buffers())
    return batch_gradient(model, *parts, images, labels)


@pytest.mark.parametrize("training", [True, False])
def test_the_true_images_explain_local_training(training):
    images, labels = batch()
    found = held(
        trained(images, labels, training=training),
        known(labels, LOCAL, training_mode=training),
        images,
        labels,
    )
    assert found.cosine > 0.999999
    assert found.relative_error < 1e-5


@pytest.mark.parametrize(
    "wrong",
    [
        {"training_mode": False},
        {"order": "average"},
        {"local": LocalSGD(0.05, momentum=0.9, weight_decay=0.01, epochs=2, batch_size=2)},
        {"local": LocalSGD(0.1, momentum=0.0, weight_decay=0.01, epochs=2, batch_size=2)},
        {"local": LocalSGD(0.1, momentum=0.9, weight_decay=0.0, epochs=2, batch_size=2)},
        {"local": LocalSGD(0.1, momentum=0.9, weight_decay=0.01, epochs=1, batch_size=2)},
        {"local": LocalSGD(0.1, momentum=0.9, weight_decay=0.01, epochs=2, batch_size=4)},
        {"clipping_norm": 0.5},
    ],
    ids=["mode", "order", "lr", "momentum", "decay", "epochs", "batch", "clipping"],
)
def test_anything_assumed_wrongly_shows(wrong):
    images, labels = batch()
    payload = trained(images, labels)
    if "clipping_norm" in wrong:  # whose examples BatchNorm would mix: as if in evaluation
        payload = trained(images, labels, training=False)
        wrong = {**wrong, "training_mode": False}
    found = held(payload, known(labels, **{"local": LOCAL, **wrong}), images, labels)
    assert found.relative_error > 1e-3


def test_of_a_gradient():
    images, labels = batch()
    payload = Payload("gradient", gradient(images, labels), num_examples=4, steps=1)
    found = held(payload, known(labels), images, labels)
    assert found.cosine > 0.999999
    assert found.relative_error < 1e-6
    other = held(payload, known(labels), images.flip(0), labels)
    assert other.cosine < 0.99


def test_its_numbers_are_those_of_the_two_vectors():
    images, labels = batch()
    captured = gradient(images, labels)
    payload = Payload("gradient", captured, num_examples=4, steps=1)
    found = held(payload, known(labels), images * 0.5, labels)
    simulated = gradient(images * 0.5, labels)
    one = torch.cat([g.flatten().double() for g in simulated.values()])
    other = torch.cat([g.flatten().double() for g in captured.values()])
    assert found.cosine == pytest.approx(float(functional.cosine_similarity(one, other, dim=0)))
    assert found.relative_error == pytest.approx(float((one - other).norm() / other.norm()))
    shares = {name: float((simulated[name] - captured[name]).norm()) for name in captured}
    assert found.worst == max(shares, key=shares.get)


def test_scaled_payload_keeps_the_cosine():
    images, labels = batch()
    doubled = {name: 2 * tensor for name, tensor in gradient(images, labels).items()}
    payload = Payload("gradient", doubled, num_examples=4, steps=1)
    found = held(payload, known(labels), images, labels)
    assert found.cosine > 0.999999
    assert found.relative_error == pytest.approx(0.5, abs=1e-5)


def test_the_tensor_that_does_not_fit_is_named():
    images, labels = batch()
    tensors = gradient(images, labels)
    tensors["4.weight"] = tensors["4.weight"] + 1.0
    payload = Payload("gradient", tensors, num_examples=4, steps=1)
    assert held(payload, known(labels), images, labels).worst == "4.weight"


@pytest.mark.parametrize("there", [0, 1, 3, 4])
def test_poisson_batch_divides_by_expected_size(there):
    """An empty one is a release of zeros, here among steps that are not empty."""
    images, labels = batch()
    model = network().eval()
    local = LocalSGD(0.1, momentum=0.5, weight_decay=0.01, batch_size=2)
    blocks = (torch.arange(there), torch.tensor([3, 1]))
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    velocity = {name: torch.zeros_like(p) for name, p in weights.items()}
    for block in blocks:
        mean = {name: torch.zeros_like(p) for name, p in weights.items()}
        for place in block.tolist():
            one = clipped_gradient(
                model,
                weights,
                dict(model.named_buffers()),
                images[place : place + 1],
                labels[place : place + 1],
                clipping_norm=0.3,
            )
            mean = {name: mean[name] + g / 2 for name, g in one.items()}
        for name, weight in weights.items():
            velocity[name] = 0.5 * velocity[name] + mean[name] + 0.01 * weight
        weights = {name: weight - 0.1 * velocity[name] for name, weight in weights.items()}
    payload = Payload("weights", weights, num_examples=4, steps=2)
    more = {"order": blocks, "training_mode": False, "clipping_norm": 0.3}
    found = held(payload, known(labels, local, **more), images, labels)
    assert found.relative_error < 1e-5


def test_the_network_is_left_as_it_was():
    images, labels = batch()
    model = network()
    model[1].eval()
    before = copy.deepcopy(model)
    payload = Payload("gradient", gradient(images, labels), num_examples=4, steps=1)
    consistency(model, state(model), payload, known(labels), images, labels)
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    for name, value in before.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
    assert all(p.grad is None for p in model.parameters())


def test_what_does_not_fit_is_refused():
    images, labels = batch()
    payload = trained(images, labels)
    with pytest.raises(ValueError, match="local SGD is known"):
        held(payload, known(labels), images, labels)
    less = {name: t for name, t in gradient(images, labels).items() if name != "0.weight"}
    with pytest.raises(ValueError, match=r"0\.weight of the network is missing"):
        held(Payload("gradient", less, num_examples=4, steps=1), known(labels), images, labels)
