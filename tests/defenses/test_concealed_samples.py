"""DCS-2: concealing images against their definition, and the gradient that is sent."""

import pytest
import torch
from torch.nn import functional

from fedlab import BadInput
from fedlab.data import load
from fedlab.data.shard import Shard
from fedlab.defenses.concealed_samples import ConcealedSamples, concealed, others_of
from fedlab.models import build
from tests.defenses.contexts import context, plain_pipeline, seeded
from tests.federations import finished, small

FEW = ConcealedSamples(iterations=60)


@pytest.fixture(scope="module")
def victim():
    data = load("digits")
    model = build("convnet", shape=data.shape, classes=10, width=8, seed=1)
    shard = Shard(data.train_images[:40], data.train_labels[:40], 10)
    public = Shard(data.test_images[:40], data.test_labels[:40], 10)
    inputs = data.normalise(data.pixels(shard.images[:3]))
    own = context(
        model,
        shard,
        public=public,
        network_input=data.normalise,
    )
    return model, own, inputs, shard.labels[:3]


def other(own, labels, generator=None):
    """Public images of other classes, and these."""
    places = others_of(own.public, labels, generator=generator or seeded())
    pixels = own.public.images[places].float().div(255)
    return own.network_input(pixels), own.public.labels[places]


def vector(model, images, labels):
    loss = functional.cross_entropy(model(images), labels)
    slopes = torch.autograd.grad(loss, list(model.parameters()))
    return torch.cat([slope.flatten() for slope in slopes])


def cost(model, found, image, label, classes):
    """The paper's cost of a concealing image, by its definition, without its constant."""
    model.eval()
    slopes = torch.autograd.grad(
        functional.cross_entropy(model(found), classes), list(model.parameters()), create_graph=True
    )
    gradient = torch.cat([slope.flatten() for slope in slopes])
    alike = functional.cosine_similarity(gradient, vector(model, image, label), dim=0)
    outputs = model(image)
    moved = (model(found) - outputs).norm() / outputs.norm()
    model.train()
    return 1 - alike + torch.exp(-0.01 * (found - image).norm()) + 0.01 * moved


def test_search_goes_down_the_paper_s_cost(victim):
    model, own, images, labels = victim
    one, label = images[:1], labels[:1]
    others, classes = other(own, label)
    assert int(classes) != int(label)
    start = (0.7 * others + 0.3 * one).requires_grad_()
    before = cost(model, start, one, label, classes)
    (slope,) = torch.autograd.grad(before, start)
    first = concealed(model, one, label, others, classes, ConcealedSamples(iterations=1))
    # The first step of Adam is one of equal size along the sign of the gradient.
    large = slope.abs() > 1e-5
    torch.testing.assert_close(first[large], (start - 0.1 * slope.sign())[large], atol=1e-3, rtol=0)
    found = concealed(model, one, label, others, classes, FEW)
    assert cost(model, found, one, label, classes) < before
    assert (found - one).norm() > (start - one).norm()
    assert model.training


def test_search_ends_beyond_the_farthest_distance(victim):
    model, own, images, labels = victim
    others, classes = other(own, labels[:1])
    near = FEW.model_copy(update={"farthest": 1e-6})
    once = FEW.model_copy(update={"iterations": 1})
    stopped, expected = (
        concealed(model, images[:1], labels[:1], others, classes, each) for each in (near, once)
    )
    torch.testing.assert_close(stopped, expected)


def test_gradient_is_a_third_of_three_losses(victim):
    model, own, images, labels = victim
    settings = ConcealedSamples(iterations=3, sensitive=2)
    pipeline = settings.wrap(plain_pipeline(model, 3), own)
    pipeline.gradient(images, labels)
    sent = torch.cat([p.grad.flatten() for p in model.parameters()])
    others, classes = other(own, labels[1:], own.stream("dcs-2"))
    hidden = concealed(model, images[1:], labels[1:], others, classes, settings)
    true = vector(model, images, labels)
    expected = (
        0.7 * vector(model, hidden, classes) + 0.3 * vector(model, hidden, labels[1:]) + true
    ) / 3
    along = torch.dot(expected, true)
    if along < 0:
        expected = expected - along / torch.dot(true, true) * true
    torch.testing.assert_close(sent, expected, rtol=1e-4, atol=1e-6)


def test_sent_gradient_never_points_against_the_true_one(victim, monkeypatch):
    model, own, images, labels = victim
    pipeline = FEW.wrap(plain_pipeline(model, 1), own)

    def opposite(model, images, *_):
        return -40 * images  # its gradient is far from that of the images

    monkeypatch.setattr("fedlab.defenses.concealed_samples.concealed", opposite)
    for place in range(3):
        one, label = images[place : place + 1], labels[place : place + 1]
        true = vector(model, one, label)
        pipeline.gradient(one, label)
        sent = torch.cat([p.grad.flatten() for p in model.parameters()])
        assert float(torch.dot(sent, true)) >= -1e-4 * float(sent.norm() * true.norm())
        assert not torch.equal(sent, true)


def test_empty_batch_is_left_alone(victim):
    model, own, images, labels = victim

    class Ones:
        def __call__(self, images, labels):
            for parameter in model.parameters():
                parameter.grad = torch.ones_like(parameter)

    pipeline = FEW.wrap(plain_pipeline(model, 3), own)
    pipeline.gradient._inner = Ones()
    pipeline.gradient(images[:0], labels[:0])
    assert all((p.grad == 1).all() for p in model.parameters())


def test_public_images_of_one_class_conceal_nothing(victim):
    _, own, _, labels = victim
    alike = Shard(own.public.images[:2], labels[:1].repeat(2), 10)
    with pytest.raises(ValueError, match="all public images are of class"):
        others_of(alike, labels[:1], generator=seeded())


@pytest.mark.parametrize("other", ["mixup", "dp-sgd", "dp-instahide"])
@pytest.mark.parametrize("turned", [False, True])
def test_images_that_belong_together_are_refused(other, turned):
    pair = [{"name": "dcs-2"}, {"name": other}]
    with pytest.raises(BadInput, match=r"both .*dcs-2"):
        small(defenses=pair[::-1] if turned else pair)


def test_gradient_of_another_defense_comes_after():
    with pytest.raises(BadInput, match="list soteria after dcs-2"):
        small(defenses=[{"name": "soteria"}, {"name": "dcs-2"}])


def test_client_of_a_round_conceals_and_is_replayed():
    run = small(
        rounds=1,
        roles=[{"role": "leaking", "clients": "all", "batch_size": 1}],
        defenses=[{"name": "dcs-2", "iterations": 20}],
        reconstructions=[{"clients": "0", "iterations": 1}],
    )
    federation = finished(run)
    assert federation.consistency(round=1, client=0).cosine < 0.99
    assert (federation.folder.table("leakage")["payload_cosine"] > 0.99999).all()
