"""Wrong assumptions about a client are noticed without truth, and right ones are left alone."""

from dataclasses import replace

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from attacks.knowledge import Knowledge, LocalSGD, PublicImages
from attacks.payload import Payload
from attacks.reconstruction.payload_consistency import Consistency
from attacks.reconstruction.plausibility import implausible, unexplained
from fedlab.models import build

MEAN, STD = 0.3, 0.4
SGD = LocalSGD(0.03, batch_size=4)
CASES = [  # images, batch size, epochs
    (1, 1, 1),
    (4, 4, 1),
    (4, 2, 2),
    (16, 4, 1),
]


def digits():
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = torch.tensor(data.images / 16).float().unsqueeze(1)
    return images[order], torch.tensor(data.target)[order]


IMAGES, LABELS = digits()
PUBLIC = PublicImages(IMAGES[1000:], LABELS[1000:])


def network(name="convnet", *, steps=0, norm=None):
    """An untrained network, or one after steps on images that no client has."""
    model = build(name, shape=(1, 8, 8), classes=10, norm=norm, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for step in range(steps):
        batch = (step * 64 + torch.arange(64)) % 500 + 500
        optimizer.zero_grad()
        functional.cross_entropy(model((IMAGES[batch] - MEAN) / STD), LABELS[batch]).backward()
        optimizer.step()
    return model


def update(model, start, local, count, *, training=True, freeze=()):
    """Weights and buffers after local training by torch's own optimiser, and those before it."""
    sent = {name: value.clone() for name, value in model.state_dict().items()}
    images, labels = (IMAGES[start:][:count] - MEAN) / STD, LABELS[start:][:count]
    model.train(training)
    settings = {"lr": local.lr, "weight_decay": local.weight_decay}
    if local.optimiser == "sgd":
        optimizer = torch.optim.SGD(model.parameters(), momentum=local.momentum, **settings)
    else:
        make = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[local.optimiser]
        optimizer = make(model.parameters(), **settings)
    for block in local.blocks(count):
        optimizer.zero_grad()
        functional.cross_entropy(model(images[block]), labels[block]).backward()
        for name, parameter in model.named_parameters():
            parameter.grad = None if name in freeze else parameter.grad
        optimizer.step()
    after = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(sent)
    return sent, after


def findings(model, sent, after, local, count, *, public=PUBLIC, training=True, buffers=False):
    names = [name for name, _ in model.named_parameters()]
    payload = Payload("weights", {name: after[name] for name in names}, count, local.steps(count))
    known = Knowledge(
        (1, 8, 8), 10, (MEAN,), (STD,), count, local=local, training_mode=training, public=public
    )
    return implausible(
        model,
        sent,
        payload,
        known,
        generator=torch.Generator().manual_seed(0),
        buffers={name: t for name, t in after.items() if name not in names} if buffers else None,
    )


def share_found(made, stated, *, public=PUBLIC, tries=3, steps=0):
    """Share of clients whose update is noticed, over sizes, batches and epochs."""
    found = []
    for name in ("mlp", "convnet"):
        model = network(name, steps=steps)
        for count, size, epochs in CASES:
            for start in range(tries):
                sent, after = update(model, 20 * start, made(size, epochs), count)
                told = stated(size, epochs)
                found.append(bool(findings(model, sent, after, told, count, public=public)))
    return sum(found) / len(found)


def sgd(lr=0.03, *, times=1, **more):
    return lambda size, epochs: LocalSGD(lr, batch_size=size, epochs=epochs * times, **more)


@pytest.mark.parametrize("steps", [0, 60])
@pytest.mark.parametrize("public", [PUBLIC, None], ids=["public images", "noise"])
@pytest.mark.parametrize(
    "local",
    [sgd(), sgd(0.003), sgd(0.1), sgd(momentum=0.9, weight_decay=5e-4), sgd(0.01, times=3)],
)
def test_honest_clients_are_left_alone(local, public, steps):
    assert share_found(local, local, public=public, steps=steps) == 0


@pytest.mark.parametrize("optimiser", ["adam", "adamw"])
@pytest.mark.parametrize("steps", [0, 60])
@pytest.mark.parametrize("public", [PUBLIC, None], ids=["public images", "noise"])
def test_adam_is_named_before_the_attack(optimiser, public, steps):
    made = sgd(0.001, optimiser=optimiser, weight_decay=0.01)
    assert share_found(made, sgd(), public=public, steps=steps) >= 0.95


@pytest.mark.parametrize("lr", [0.3, 0.003])
@pytest.mark.parametrize("public", [PUBLIC, None], ids=["public images", "noise"])
def test_wrong_learning_rate_is_noticed(lr, public):
    assert share_found(sgd(), sgd(lr), public=public) >= 0.95


def test_wrong_number_of_steps_is_noticed():
    assert share_found(sgd(times=4), sgd()) >= 0.95
    assert share_found(sgd(), sgd(times=4)) >= 0.75


def test_learning_rate_behind_one_image_is_named():
    model = network(steps=60)
    sent, after = update(model, 3, LocalSGD(0.03), 1)
    (sentence,) = findings(model, sent, after, LocalSGD(0.01), 1)
    assert "a learning rate of 0.03 would fit" in sentence


def test_several_images_are_not_taken_for_one():
    model = network()
    sent, after = update(model, 3, LocalSGD(0.03, batch_size=2), 2)
    (sentence,) = findings(model, sent, after, LocalSGD(0.03), 1)
    assert "several images or steps" in sentence


def test_gradient_that_was_summed_is_noticed():
    model = network()
    sent, after = update(model, 3, LocalSGD(1.0, batch_size=8), 8)
    gradient = {name: 8 * (sent[name] - after[name]) for name, _ in model.named_parameters()}
    known = Knowledge((1, 8, 8), 10, (MEAN,), (STD,), 8)
    found = implausible(
        model, sent, Payload("gradient", gradient, 8, 1), known, generator=torch.Generator()
    )
    assert len(found) == 1
    assert "a plain gradient" in found[0]


@pytest.mark.parametrize("training", [True, False])
def test_counters_of_batchnorm_tell_mode_and_steps(training):
    model = network("resnet8", norm="batch")
    sent, after = update(model, 0, SGD, 8, training=training)
    assert not findings(model, sent, after, SGD, 8, training=training, buffers=True)
    (sentence, *_) = findings(model, sent, after, SGD, 8, training=not training, buffers=True)
    assert "BatchNorm counters" in sentence
    other = replace(SGD, batch_size=8)
    if training:
        (sentence, *_) = findings(model, sent, after, other, 8, buffers=True)
        assert "moved by 2, but 1 local steps" in sentence


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("count", [4, 8])
def test_mode_of_batchnorm_shows_in_the_weights(training, count):
    model = network("resnet8", norm="batch", steps=20)
    for start in (0, 20, 40):
        sent, after = update(model, start, SGD, count, training=training)
        assert not findings(model, sent, after, SGD, count, training=training)
        (sentence, *_) = findings(model, sent, after, SGD, count, training=not training)
        assert f"moved as in {'training' if training else 'evaluation'} mode" in sentence


def test_frozen_layers_and_missing_weight_decay_are_noticed():
    model = network()
    frozen = max(model.named_parameters(), key=lambda pair: pair[1].numel())[0]
    sent, after = update(model, 0, SGD, 4, freeze=(frozen,))
    (sentence, *_) = findings(model, sent, after, SGD, 4)
    assert f"{frozen} did not move" in sentence
    sent, after = update(model, 0, SGD, 1)
    (sentence, *_) = findings(model, sent, after, replace(SGD, weight_decay=0.01), 1)
    assert "weight decay 0.01 was stated" in sentence


@pytest.mark.parametrize(
    ("made", "stated", "sentence"),
    [
        (SGD, replace(SGD, lr=0.001, optimiser="adam"), "state SGD"),
        (replace(SGD, lr=0.001, optimiser="adam"), replace(SGD, optimiser="adam"), "1.0e-03"),
    ],
)
def test_adam_that_was_stated_wrongly_is_noticed(made, stated, sentence):
    model = network()
    sent, after = update(model, 0, made, 4)
    (found,) = findings(model, sent, after, stated, 4)
    assert sentence in found


def test_adam_that_was_stated_rightly_is_left_alone():
    for epochs in (1, 3):
        local = LocalSGD(0.001, batch_size=4, epochs=epochs, optimiser="adam")
        model = network()
        sent, after = update(model, 0, local, 8)
        assert not findings(model, sent, after, local, 8)


def test_nothing_is_said_of_a_defended_update():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    sent = {name: p.detach() for name, p in model.named_parameters()}
    payload = Payload("gradient", {name: torch.ones_like(p) for name, p in sent.items()}, 1, 1)
    known = Knowledge((1, 8, 8), 10, (MEAN,), (STD,), 1, defenses=("quantisation",))
    assert not implausible(model, sent, payload, known, generator=torch.Generator())
    plain = replace(known, defenses=())
    assert implausible(model, sent, payload, plain, generator=torch.Generator())


def test_checks_leave_network_and_random_state_unchanged():
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(),
        nn.Flatten(),
        nn.Linear(144, 10),
    )
    sent, after = update(model.eval(), 0, SGD, 4)
    before, drawn = model.state_dict(), torch.random.get_rng_state()
    modes = [each.training for each in model.modules()]
    findings(model, sent, after, replace(SGD, lr=0.04), 4)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert [each.training for each in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in sent.items())


@pytest.mark.parametrize(
    ("fit", "words"),
    [
        (Consistency(0.99, 0.15, 1.0, "w"), None),
        (Consistency(0.2, 1.0, 1.0, "w"), "explain the update badly"),
        (Consistency(float("nan"), 1.0, 1.0, "w"), "explain the update badly"),
        (Consistency(0.99, 9.0, 10.0, "w"), "10 times as long"),
        (Consistency(0.99, 0.9, 0.1, "w"), "0.1 times as long"),
    ],
)
def test_fit_of_images_is_judged_after_the_attack(fit, words):
    found = unexplained(fit)
    assert (not found) if words is None else (words in found[0])
