"""CENSOR sends a direction that is orthogonal to the gradient, and as long, tensor by tensor."""

import pytest
import torch
from torch.nn import functional

from attacks.payload import Payload
from attacks.reconstruction import PRESETS
from attacks.reconstruction.defended import adapted
from fedlab.data.shard import Shard
from fedlab.defenses.censor import Censor, orthogonal
from fedlab.defenses.pipeline import PlainGradient
from fedlab.models import build
from tests.defenses.contexts import context, plain_pipeline, seeded
from tests.defenses.private import batch
from tests.defenses.updates import known, update
from tests.federations import finished, small

SHARD = Shard(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(4).long(), 10)


@pytest.mark.parametrize("size", [1e-3, 1.0, 50.0])
def test_direction_is_orthogonal_at_every_length(size):
    """The public code's projection is orthogonal at a length of 1 only."""
    gradient = update(size=size)
    found = orthogonal(gradient, generator=seeded(1))
    for name in ("weight", "bias"):
        one, other = found[name].flatten(), gradient[name].flatten()
        assert float(functional.cosine_similarity(one, other, dim=0)) == pytest.approx(0, abs=1e-6)
        assert float(one.norm()) == pytest.approx(float(other.norm()), rel=1e-5)
    assert float(found["scale"]) == 0  # nothing else is orthogonal to a single number


def test_tensor_of_zeros_stays_zero():
    found = orthogonal({"a": torch.zeros(3), "b": torch.tensor([0.0, 2.0])}, generator=seeded())
    assert not found["a"].any()
    torch.testing.assert_close(found["b"].abs(), torch.tensor([2.0, 0.0]))


def loss_after(model, direction, images, labels, probe):
    weights = {n: p.detach() - probe * direction[n] for n, p in model.named_parameters()}
    with torch.no_grad():
        return float(
            functional.cross_entropy(torch.func.functional_call(model, weights, images), labels)
        )


def test_direction_with_the_lowest_loss_is_sent():
    model = build("convnet", shape=(1, 8, 8), classes=10, width=8)
    images, labels = batch()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    PlainGradient(model)(images, labels)
    plain = {name: p.grad.clone() for name, p in model.named_parameters()}
    settings = Censor(trials=6, probe=1.0)
    pipeline = settings.wrap(plain_pipeline(model, 4), context(model, SHARD))
    pipeline.gradient(images, labels)
    sent = {name: p.grad for name, p in model.named_parameters()}
    generator = context(model, SHARD).stream("censor")
    draws = [orthogonal(plain, generator=generator) for _ in range(6)]
    losses = [loss_after(model, each, images, labels, 1.0) for each in draws]
    best = draws[losses.index(min(losses))]
    assert min(losses) < max(losses)
    assert all(torch.equal(sent[name], best[name]) for name in sent)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert model.training


def test_empty_batch_gets_a_direction():
    model = build("convnet", shape=(1, 8, 8), classes=10, width=8)

    class Ones:
        def __call__(self, images, labels):
            for parameter in model.parameters():
                parameter.grad = torch.ones_like(parameter)

    plain = plain_pipeline(model, 4, gradient=Ones())
    pipeline = Censor().wrap(plain, context(model, SHARD))
    pipeline.gradient(*(part[:0] for part in batch()))
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_update_says_nothing_of_the_direction():
    run = small(
        rounds=1,
        roles=[{"role": "leaking", "clients": "all", "batch_size": 4}],
        defenses=[{"name": "censor"}],
        reconstructions=[{"clients": "0", "iterations": 1}],
    )
    federation = finished(run)
    assert federation.consistency(round=1, client=0).cosine == pytest.approx(0, abs=1e-4)
    assert (federation.folder.table("leakage")["payload_cosine"] > 0.99999).all()


def test_attack_looks_for_orthogonal_gradients():
    payload = Payload("gradient", {"a": torch.ones(2)}, num_examples=1, steps=1)
    tuned = adapted(PRESETS["see-through-gradients"], payload, known("censor"))
    assert (tuned.objective, tuned.match) == ("orthogonal", 1.0)
