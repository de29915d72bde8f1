"""Tests of reading images out of captured payloads of a malicious server."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from attacks.gradients import batch_gradient
from attacks.knowledge import Knowledge, LocalSGD
from attacks.malicious_server.fishing import fish_class, last_layer
from attacks.malicious_server.imprint import imprint
from attacks.malicious_server.rebuild import read_imprints, read_traps, single_out
from attacks.malicious_server.traps import set_traps
from attacks.payload import Payload
from fedlab.models import build

SHAPE, CLASSES = (1, 8, 8), 5
LABELS = torch.tensor([0, 1, 2, 3, 4, 2])
KNOWN = Knowledge(SHAPE, CLASSES, (0.5,), (0.5,), num_images=len(LABELS))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images():
    """Random ones of different brightness, normalised; any two more than a bin apart."""
    noise = torch.rand((len(LABELS), *SHAPE), generator=seeded(1))
    steps = torch.linspace(0.2, 1.0, len(LABELS)).view(-1, 1, 1, 1)
    return (noise * steps) * 2 - 1


def trap(norm="none"):
    network = build("convnet", shape=SHAPE, classes=CLASSES, width=8, norm=norm, seed=3)
    return imprint(network, shape=SHAPE, bins=64, generator=seeded(2), centre=-0.4, spread=0.3)


def payload_of(model, state=None, inputs=None, labels=LABELS):
    state = dict(model.named_parameters()) if state is None else state
    inputs = images() if inputs is None else inputs
    gradient = batch_gradient(model, state, dict(model.named_buffers()), inputs, labels)
    return Payload("gradient", {n: t.detach() for n, t in gradient.items()}, len(labels), 1)


def stepped(state, payload, *, lr, decay=0.0):
    weights = {n: state[n] - lr * (t + decay * state[n]) for n, t in payload.tensors.items()}
    return replace(payload, kind="weights", tensors=weights)


def state_of(model):
    return {name: value.detach() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("norm", ["none", "group"])
def test_every_image_gets_its_own_label(norm):
    model = trap(norm)
    made = read_imprints(model, state_of(model), payload_of(model), KNOWN)
    pixels = images() / 2 + 0.5
    distance = (made.images.unsqueeze(1) - pixels).abs().flatten(2).amax(2)
    assert sorted(distance.argmin(1).tolist()) == list(range(len(LABELS)))
    assert distance.amin(1).max() < 1e-3
    assert torch.equal(made.labels, LABELS[distance.argmin(1)])
    assert not made.labels_known
    assert len(made.costs) == 0
    assert made.attack.method == "analytic"


def test_weights_after_one_step_give_the_images():
    model = trap()
    state, sent = state_of(model), payload_of(model)
    local = replace(KNOWN, local=LocalSGD(lr=0.5, batch_size=len(LABELS)))
    one = read_imprints(model, state, sent, KNOWN)
    other = read_imprints(model, state, stepped(state, sent, lr=0.5), local)
    assert torch.allclose(one.images, other.images, atol=1e-2)
    assert torch.equal(one.labels, other.labels)


def test_shared_bins_give_fewer_images():
    model = trap()
    state, sent = state_of(model), payload_of(model)
    assert len(read_imprints(model, state, sent, replace(KNOWN, num_images=2)).images) == 2
    twice = images()[:1].expand(6, -1, -1, -1)
    assert len(read_imprints(model, state, payload_of(model, inputs=twice), KNOWN).images) == 1
    nothing = replace(sent, tensors={n: torch.zeros_like(t) for n, t in sent.tensors.items()})
    empty = read_imprints(model, state, nothing, KNOWN)
    assert (len(empty.images), len(empty.labels)) == (0, 0)


def test_network_is_left_unchanged():
    model = trap("batch").eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    read_imprints(model, state_of(model), payload_of(model), KNOWN)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())
    assert not model.block.measure._forward_hooks


@pytest.mark.parametrize("kind", ["gradient", "weights"])
def test_caught_images_get_their_own_labels(kind):
    model = build("mlp", shape=SHAPE, classes=CLASSES, width=400, seed=3)
    state = set_traps(
        model,
        state_of(model),
        shape=SHAPE,
        rule="quantile",
        batch_size=len(LABELS),
        generator=seeded(2),
        mean=KNOWN.mean,
        std=KNOWN.std,
        reference=torch.rand((100, *SHAPE), generator=seeded(4)) * 2 - 1,
        norm=0.577 if kind == "gradient" else 0.02,
    )
    pixels = (torch.rand((len(LABELS), *SHAPE), generator=seeded(1)) * 255).round() / 255
    sent, knowledge = payload_of(model, state, pixels * 2 - 1), KNOWN
    if kind == "weights":
        sent = stepped(state, sent, lr=0.5)
        knowledge = replace(KNOWN, local=LocalSGD(lr=0.5, batch_size=len(LABELS)))
    made = read_traps(model, state, sent, knowledge)
    distance = (made.images.unsqueeze(1) - pixels).abs().flatten(2).amax(2)
    assert sorted(distance.argmin(1).tolist()) == list(range(len(LABELS)))
    assert distance.amin(1).max() < (1e-4 if kind == "gradient" else 1e-2)
    assert torch.equal(made.labels, LABELS[distance.argmin(1)])
    assert not made.labels_known
    assert "2406.18745" in made.attack.source
    few = read_traps(model, state, sent, replace(knowledge, num_images=2))
    assert torch.equal(few.images, made.images[:2])


def victim(target):
    model = build("convnet", shape=SHAPE, classes=CLASSES, width=8, seed=3)
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    weight, bias = last_layer(parameters)
    return model, fish_class(parameters, weight=weight, bias=bias, target=target)


@pytest.mark.parametrize(("target", "count"), [(1, 1), (2, 2)])
@pytest.mark.parametrize("kind", ["gradient", "weights"])
def test_single_out_gives_mean_fished_gradient(target, count, kind):
    model, state = victim(target)
    sent, knowledge = payload_of(model, state), KNOWN
    if kind == "weights":
        sent = stepped(state, sent, lr=0.5, decay=0.01)
        knowledge = replace(KNOWN, local=LocalSGD(lr=0.5, weight_decay=0.01))
    payload, known = single_out(state, sent, knowledge, target=target)
    own = torch.eq(LABELS, target)
    alone = payload_of(model, state, images()[own], LABELS[own]).tensors
    assert (payload.kind, payload.num_examples, known.num_images) == ("gradient", count, count)
    assert known.labels.tolist() == [target] * count
    assert known.local is None
    assert list(payload.tensors) == list(alone)
    for name, tensor in payload.tensors.items():
        # Weights are rounded to their own size, coarse for what one step changes.
        close = 1e-5 if kind == "gradient" else 1e-2
        assert torch.allclose(tensor, alone[name], atol=close * float(alone[name].abs().max()))


def test_one_image_is_assumed_under_a_defense():
    model, state = victim(2)
    defended = replace(KNOWN, defenses=("dp-sgd",))
    payload, known = single_out(state, payload_of(model, state), defended, target=2)
    assert (payload.num_examples, known.num_images) == (1, 1)


def test_several_steps_and_other_nets_are_refused():
    model, state = victim(2)
    sent = stepped(state, payload_of(model, state), lr=0.5)
    local = replace(KNOWN, local=LocalSGD(lr=0.5))
    with pytest.raises(ValueError, match="client took 3 local steps"):
        single_out(state, replace(sent, steps=3), local, target=2)
    with pytest.raises(ValueError, match="no imprint block"):
        read_imprints(model, state, payload_of(model, state), KNOWN)
    convolution = nn.Conv2d(1, 5, 8)
    with pytest.raises(ValueError, match="linear last layer"):
        last_layer(dict(convolution.named_parameters()))
    assert last_layer({"a": torch.zeros(3), "b": torch.zeros(5, 3)}) == ("b", None)
