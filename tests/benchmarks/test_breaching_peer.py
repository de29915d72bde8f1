"""Breaching's attacker runs on our networks and payloads as on those of its own users."""

import importlib.util
import logging

import numpy as np
import pytest
import torch
from torch.nn import functional

from benchmarks.breaching_peer import LocalSteps, invert_with_breaching
from fedlab.models import build
from tests import real_images

# Looked for but not imported: that it stays quiet at its import is tested, too.
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("breaching") is None, reason="breaching, the peer, is not installed"
)

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
ITERATIONS, MARKS = 30, (0, 10, 30)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Four images in [0, 1] and their labels."""
    folder = tmp_path_factory.mktemp("images")
    with np.load(real_images.npz("cifar10", folder, "--train", "1", "--test", "4")) as arrays:
        images = torch.tensor(arrays["test_images"]).permute(0, 3, 1, 2) / 255
        return images, torch.tensor(arrays["test_labels"])


@pytest.fixture(scope="module")
def network():
    model = build("convnet8", shape=(3, 32, 32), classes=10, width=8, norm="batch", seed=0)
    # Buffers that are neither those of a new network nor those of the batch.
    model(torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    return model.eval()


def normalised(images):
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (images - mean) / std


def loss(model, images, labels):
    return functional.cross_entropy(model(normalised(images)), labels)


def gradient(model, images, labels):
    return torch.autograd.grad(loss(model, images, labels), list(model.parameters()))


def trained(model, images, labels, lr):
    """The weights after one step of SGD per image, by torch's optimiser."""
    client = build("convnet8", shape=(3, 32, 32), classes=10, width=8, norm="batch", seed=1).eval()
    client.load_state_dict(model.state_dict())
    optimizer = torch.optim.SGD(client.parameters(), lr=lr)
    for image, label in zip(images.split(1), labels.split(1), strict=True):
        optimizer.zero_grad()
        loss(client, image, label).backward()
        optimizer.step()
    return [parameter.detach() for parameter in client.parameters()]


def cost(ours, theirs):
    """One minus the cosine, all tensors as one vector."""
    flat = [torch.cat([t.flatten() for t in group]).double() for group in (ours, theirs)]
    return 1 - functional.cosine_similarity(*flat, dim=0).item()


def invert(model, payload, labels, **options):
    settings = {"iterations": ITERATIONS, "tv": 1e-6, "marks": MARKS, "seed": 3}
    return invert_with_breaching(
        model, payload, labels=labels, shape=(3, 32, 32), mean=MEAN, std=STD, **(settings | options)
    )


@pytest.fixture(scope="module")
def one(network, photos):
    """The payload of a single image, its label and breaching's answer."""
    images, labels = photos[0][2:3], photos[1][2:3]
    payload = gradient(network, images, labels)
    return payload, labels, invert(network, payload, labels)


def test_its_answer_matches_the_payload_better_than_its_start(network, one):
    payload, labels, result = one
    assert result.images.shape == (1, 3, 32, 32)
    assert result.images.dtype == torch.float32
    assert 0 <= result.images.min() < result.images.max() <= 1
    assert result.iterations == ITERATIONS
    start = result.trace[0].images * torch.tensor(STD).view(3, 1, 1)
    start = start + torch.tensor(MEAN).view(3, 1, 1)
    first = cost(gradient(network, start, labels), payload)
    assert result.cost < 0.7 * first
    # That it sees the network we gave it, in evaluation mode and with its buffers.
    ours = cost(gradient(network, result.images, labels), payload)
    assert result.cost == pytest.approx(ours, abs=1e-4)


def test_the_trace_has_the_marks_in_time_and_ends_at_the_answer(one):
    *_, result = one
    assert tuple(mark.iteration for mark in result.trace) == MARKS
    seconds = [mark.seconds for mark in result.trace]
    assert 0 <= seconds[0] < seconds[1] < seconds[2] == result.seconds
    torch.testing.assert_close(result.trace[-1].images, normalised(result.images))


def test_a_mark_is_the_answer_of_a_run_that_ends_there(network, one):
    """At steps so large that the lowest objective comes early and the last iterate is not best."""
    payload, labels, _ = one
    options = {"schedule": None, "step_size": 1.0}
    long = invert(network, payload, labels, marks=range(1, 13), iterations=12, **options)
    for done in (1, 4, 8, 12):
        short = invert(network, payload, labels, marks=(), iterations=done, **options)
        assert short.trace == ()
        torch.testing.assert_close(
            long.trace[done - 1].images, normalised(short.images), atol=1e-5, rtol=0
        )


def test_same_seed_same_images_and_the_generators_are_left_alone(network, one):
    payload, labels, result = one
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    again = invert(network, payload, labels, marks=())
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(again.images, result.images)
    other = invert(network, payload, labels, seed=4, iterations=1, marks=[0])
    assert not torch.equal(other.trace[0].images, result.trace[0].images)


def test_settings_reach_its_configuration(network, one):
    payload, labels, _ = one
    plain = invert(network, payload, labels, iterations=5, marks=())
    for changed in (
        {"tv": 10.0},
        {"step_size": 0.3},
        {"sign": "soft"},
        {"sign": None},
        {"schedule": "cosine-decay"},
        {"overrides": {"init": "zeros"}},
        {"overrides": {"+regularization.norm.scale": 1.0}},
    ):
        other = invert(network, payload, labels, iterations=5, marks=(), **changed)
        assert not torch.equal(other.images, plain.images), changed
    restarts = invert(
        network, payload, labels, iterations=5, marks=[5], overrides={"restarts.num_trials": 2}
    )
    assert restarts.iterations == 10
    assert [mark.iteration for mark in restarts.trace] == [5]
    assert restarts.seconds > restarts.trace[0].seconds
    with pytest.raises(Exception, match="nothing_of_this_name"):
        invert(network, payload, labels, overrides={"nothing_of_this_name": 1})


def test_local_steps_are_unrolled_as_the_client_took_them(network, photos):
    images, labels = photos
    payload = trained(network, images, labels, lr=1e-3)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    local = LocalSteps(lr=1e-3, steps=4, images_per_step=1)
    result = invert(network, payload, labels, local=local, iterations=5, marks=())
    assert result.images.shape == (4, 3, 32, 32)
    assert all(map(torch.equal, network.parameters(), before))

    def update(weights):
        return [after - start for after, start in zip(weights, before, strict=True)]

    ours = cost(update(trained(network, result.images, labels, lr=1e-3)), update(payload))
    assert result.cost == pytest.approx(ours, abs=1e-3)


def test_it_says_nothing(network, one, capfd, caplog):
    payload, labels, _ = one
    with caplog.at_level(logging.INFO):
        invert(network, payload, labels, iterations=1, marks=())
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"payload": []}, "one tensor of the same shape per parameter"),
        ({"labels": torch.zeros(1, 1).long()}, "one class per image"),
        ({"marks": [31]}, "from 0 to 30"),
    ],
)
def test_what_does_not_fit_is_refused(network, one, changed, said):
    payload, labels, _ = one
    given = {"payload": payload, "labels": labels} | changed
    with pytest.raises(ValueError, match=said):
        invert(network, given.pop("payload"), given.pop("labels"), **given)
