"""Soteria's scores against their definition, and its pruning."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from fedlab.core.errors import BadInput
from fedlab.data.shard import Shard
from fedlab.defenses.pipeline import PlainGradient
from fedlab.defenses.soteria import PrunedGradient, Soteria, last_linear, scores
from fedlab.models import build
from fedlab.simulation.federation import Federation
from tests.defenses.contexts import context, plain_pipeline
from tests.defenses.private import batch
from tests.federations import finished, small


def features_of(model, images):
    """Input of the last layer of a sequential network."""
    return model[:-1](images)


@pytest.mark.parametrize("norm", [None, "batch"])
def test_scores_equal_their_definition(norm):
    model = build("convnet", shape=(1, 8, 8), classes=10, width=4, norm=norm)
    images, _ = batch(3)
    found = scores(model, last_linear(model), images)
    model.eval()
    wanted = torch.zeros(16)
    for image in images:
        for j in range(16):
            x = image.unsqueeze(0).clone().requires_grad_()
            r = features_of(model, x)[0, j]
            (slope,) = torch.autograd.grad(r, x)
            wanted[j] += slope.norm() / (r.detach() + 0.1)
    torch.testing.assert_close(found, wanted.abs(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["mlp", "lenet", "convnet", "resnet8"])
@pytest.mark.parametrize("share", [0.2, 0.6])
def test_lowest_scores_of_one_layer_are_pruned(name, share):
    model = build(name, shape=(1, 8, 8), classes=10, width=8)
    images, labels = batch()
    PlainGradient(model)(images, labels)
    plain = {key: p.grad.clone() for key, p in model.named_parameters()}
    layer = last_linear(model)
    PrunedGradient(model, layer, PlainGradient(model), share)(images, labels)
    order = scores(model, layer, images).argsort(stable=True)
    pruned = order[: round(share * layer.in_features)]
    kept = order[round(share * layer.in_features) :]
    for key, parameter in model.named_parameters():
        if parameter is layer.weight:
            assert not parameter.grad[:, pruned].any()
            assert torch.equal(parameter.grad[:, kept], plain[key][:, kept])
        else:
            assert torch.equal(parameter.grad, plain[key])


def test_scores_leave_the_network_unchanged():
    model = build("resnet8", shape=(1, 8, 8), classes=10, width=4, norm="batch")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scores(model, last_linear(model), batch()[0])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(layer.training for layer in model.modules())
    assert not any(layer._forward_pre_hooks for layer in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_soteria_wraps_any_gradient():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    shard = Shard(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(4).long(), 10)

    class Ones:
        def __call__(self, images, labels):
            for parameter in model.parameters():
                parameter.grad = torch.ones_like(parameter)

    plain = plain_pipeline(model, 4, batch_size=2, gradient=Ones())
    pipeline = Soteria(share=0.5).wrap(plain, context(model, shard))
    pipeline.gradient(*batch())
    assert model[1].weight.grad.sum() == 32 * 10
    pipeline.gradient(*(part[:0] for part in batch()))
    assert model[1].weight.grad.sum() == 64 * 10  # an empty batch has no scores
    assert pipeline.planned == ()


def test_soteria_round_counts_as_open():
    federation = finished(small(rounds=1, defenses=[{"name": "soteria", "clients": "0"}]))
    assert [entry.mechanism for entry in federation.ledger.histories[0]] == ["none"]
    assert federation.folder.table("clients")["defenses"].tolist()[0] == "soteria"


ALL_CONVOLUTIONS = """
from torch import nn

def make(shape, classes):
    return nn.Sequential(nn.Conv2d(shape[0], classes, shape[1]), nn.Flatten())
"""


def test_network_without_linear_layer_is_refused(tmp_path, monkeypatch):
    (tmp_path / "convolutions.py").write_text(ALL_CONVOLUTIONS)
    monkeypatch.chdir(tmp_path)
    scenario = small(
        "model.name='factory'", "model.factory='convolutions:make'", "model.width=1"
    ).changed(defenses=[{"name": "soteria"}])
    with pytest.raises(BadInput, match="the network has none"):
        Federation(scenario)


def test_other_layers_keep_the_gradient_of_the_loss():
    """Pruning follows the backward pass and does not change it."""
    model = build("lenet", shape=(1, 8, 8), classes=10)
    images, labels = batch()
    PrunedGradient(model, last_linear(model), PlainGradient(model), 0.9)(images, labels)
    first = next(model.parameters())
    own = torch.autograd.grad(functional.cross_entropy(model(images), labels), first)[0]
    torch.testing.assert_close(first.grad, own)
