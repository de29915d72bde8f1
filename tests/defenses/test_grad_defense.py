"""GradDefense: sensitivities and slices against their definitions, and where the noise is."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from attacks.payload import Payload
from attacks.reconstruction import PRESETS
from attacks.reconstruction.defended import adapted
from fedlab import BadInput
from fedlab.defenses.grad_defense import ROUNDING, GradDefense, equal_slices, sensitivities
from fedlab.models import build
from tests.defenses.private import batch
from tests.defenses.updates import known, released, update
from tests.federations import finished, small


def test_sensitivity_equals_its_definition():
    model = build("lenet", shape=(1, 8, 8), classes=10, width=4)
    images, labels = batch(3)
    found = sensitivities(model, images, labels)

    def entries(inputs, parameter):
        loss = functional.cross_entropy(model(inputs), labels)
        return torch.autograd.grad(loss, parameter, create_graph=True)[0].sum()

    for name, parameter in model.named_parameters():
        slope = torch.autograd.functional.jacobian(lambda x, p=parameter: entries(x, p), images)
        expected = float(slope.flatten(1).norm(dim=1).mean())
        expected *= expected > ROUNDING
        assert found[name] == pytest.approx(expected, rel=1e-3), name
    assert all(p.grad is None for p in model.parameters())
    assert model.training


def test_slices_are_equally_sensitive():
    sizes = {"a": 600, "b": 30, "c": 300}
    sensitivity = {"a": 5.0, "b": 0.1, "c": 3.0}  # at most 0.3 for each unit of 30 entries
    found = equal_slices(sizes, sensitivity, count=6)
    numbers = torch.cat(list(found.values()))
    assert (numbers.diff() >= 0).all()
    each = torch.cat([torch.full((n,), sensitivity[k] / n) for k, n in sizes.items()])
    totals = torch.zeros(6).index_add(0, numbers, each)
    torch.testing.assert_close(totals, torch.full((6,), 1.35), atol=0.3, rtol=0)
    for name, size in sizes.items():
        assert (found[name].view(size // 30, 30).diff(dim=1) == 0).all()


def test_linear_network_is_insensitive():
    images, labels = batch(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert set(sensitivities(model, images, labels).values()) == {0.0}


def test_insensitive_network_is_cut_by_size():
    found = equal_slices({"a": 40, "b": 40}, {"a": 0.0, "b": 0.0}, count=2)
    assert (found["a"] == 0).all()
    assert (found["b"] == 1).all()


def test_noise_is_in_some_slices_only():
    sent = {"1.weight": torch.zeros(10, 64), "1.bias": torch.zeros(10)}
    found = released(GradDefense(slices=5, perturbed=2, scale=0.1), sent)
    flat = torch.cat([found[name].flatten() for name in sent])
    noisy = flat[flat != 0]
    assert len(noisy) / len(flat) == 0.4  # a linear network is cut by size
    assert float(noisy.std()) == pytest.approx(0.1, rel=0.2)
    every = released(GradDefense(slices=5, perturbed=5, scale=0.1), sent)
    assert all(tensor.all() for tensor in every.values())


def test_nothing_but_noise_changes():
    sent = dict(zip(("1.weight", "1.bias"), update().values(), strict=False))
    assert released(GradDefense(scale=0.0), sent).keys() == sent.keys()
    for name, tensor in released(GradDefense(scale=0.0), sent).items():
        assert torch.equal(tensor, sent[name])


def test_too_many_perturbed_slices_are_refused():
    with pytest.raises(BadInput, match="cannot perturb 11 of 10 slices"):
        small(defenses=[{"name": "grad-defense", "perturbed": 11}])


def test_attack_weighs_the_noise():
    payload = Payload("gradient", {"a": torch.ones(2)}, num_examples=1, steps=1)
    facts = GradDefense(scale=0.02).facts(())
    assert facts == {"update_noise": pytest.approx(0.02 * math.sqrt(0.5))}
    tuned = adapted(PRESETS["fast"], payload, known("grad-defense", **facts))
    assert tuned.objective == "l2"


def test_round_is_changed_and_replayed():
    run = small(
        rounds=1,
        roles=[{"role": "leaking", "clients": "all", "batch_size": 4}],
        defenses=[{"name": "grad-defense", "scale": 0.05}],
        reconstructions=[{"clients": "0", "iterations": 1}],
    )
    federation = finished(run)
    assert federation.consistency(round=1, client=0).cosine < 0.95
    assert (federation.folder.table("leakage")["payload_cosine"] > 0.99999).all()
