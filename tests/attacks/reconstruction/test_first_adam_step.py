"""A first step of Adam is undone where rounding allows it, and attacked in both cases."""

from dataclasses import replace

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional

from attacks.knowledge import Knowledge, LocalSGD
from attacks.payload import Payload
from attacks.reconstruction import PRESETS, invert
from attacks.reconstruction.first_adam_step import undo_first_step
from attacks.reconstruction.payload_consistency import consistency
from attacks.reconstruction.problem import Problem
from fedlab.metrics.images import psnr
from fedlab.models import build

MEAN, STD, LR = 0.3, 0.4, 1e-3


def client(name="adam", *, count=1, weight_decay=0.0, half=False, first=0, lr=LR):
    """A step of torch's own Adam on digits: network, sent weights, payload, images and labels."""
    data = load_digits()
    images = torch.tensor(data.images[first : first + count] / 16).float().unsqueeze(1)
    labels = torch.tensor(data.target[first : first + count])
    model = build("convnet", shape=(1, 8, 8), classes=10, width=16, seed=0)
    sent = {key: value.clone() for key, value in model.state_dict().items()}
    make = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[name]
    optimizer = make(model.parameters(), lr=lr, weight_decay=weight_decay)
    functional.cross_entropy(model((images - MEAN) / STD), labels).backward()
    gradient = {key: p.grad.clone() for key, p in model.named_parameters()}
    optimizer.step()
    after = {key: p.detach().clone() for key, p in model.named_parameters()}
    after = {key: p.half() if half else p for key, p in after.items()}
    return model, sent, Payload("weights", after, count, 1), images, labels, gradient


def knowledge(count, local, labels=None):
    return Knowledge((1, 8, 8), 10, (MEAN,), (STD,), count, labels=labels, local=local)


@pytest.mark.parametrize(("name", "decay"), [("adam", 0.0), ("adam", 0.01), ("adamw", 0.1)])
def test_gradient_behind_a_step_is_found(name, decay):
    _, sent, payload, _, _, gradient = client(name, weight_decay=decay, lr=0.1)
    local = LocalSGD(0.1, weight_decay=decay, optimiser=name)
    parameters = {key: sent[key] for key in payload.tensors}
    found, limits = undo_first_step(parameters, payload.tensors, local)
    for key, true in gradient.items():
        true = true + decay * sent[key] if name == "adam" else true
        known = (true.abs() < limits[key]) & (true.abs() > 1e-6)
        assert torch.allclose(found[key][known], true[known], rtol=0.5, atol=0)
        assert (found[key].abs() <= limits[key]).all()


def test_half_precision_hides_all_but_the_signs():
    _, sent, payload, *_ = client(half=True)
    parameters = {key: sent[key] for key in payload.tensors}
    local = LocalSGD(LR, optimiser="adam")
    assert undo_first_step(parameters, payload.tensors, local) is None


@pytest.mark.parametrize(("name", "decay"), [("adam", 0.0), ("adam", 0.01), ("adamw", 0.1)])
@pytest.mark.parametrize("half", [False, True])
def test_true_images_are_consistent_with_adam(name, decay, half):
    model, sent, payload, images, labels, _ = client(name, count=3, weight_decay=decay, half=half)
    local = LocalSGD(LR, weight_decay=decay, batch_size=3, optimiser=name)
    known = knowledge(3, local, labels)
    true = consistency(model, sent, payload, known, (images - MEAN) / STD, labels)
    assert true.cosine > (0.9 if half else 0.99)
    taken = replace(local, optimiser="sgd")
    wrong = consistency(
        model, sent, payload, replace(known, local=taken), (images - MEAN) / STD, labels
    )
    assert wrong.cosine < 0.7


def test_label_of_one_image_is_inferred():
    for first in range(10):
        model, sent, payload, _, labels, _ = client(first=first)
        local = LocalSGD(LR, optimiser="adam")
        problem = Problem.of(model, sent, payload, knowledge(1, local))
        found = problem.infer_labels("auto", torch.Generator().manual_seed(0))
        assert torch.equal(found, labels)


@pytest.mark.parametrize("half", [False, True])
def test_adam_is_attacked_better_than_when_taken_for_sgd(half):
    gains = []
    for first in range(3):
        model, sent, payload, images, labels, _ = client(first=first, half=half)
        scores = []
        for optimiser in ("adam", "sgd"):
            found = invert(
                model,
                sent,
                payload,
                knowledge(1, LocalSGD(LR, optimiser=optimiser), labels),
                replace(PRESETS["fast"], iterations=200),
                generator=torch.Generator().manual_seed(0),
            )
            scores.append(float(psnr(images, found.images)))
        gains.append(scores[0] - scores[1])
    assert min(gains) > 3
