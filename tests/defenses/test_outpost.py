"""OUTPOST prunes, adds noise where its definition says, and really changes what is sent."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from attacks.payload import Payload
from attacks.reconstruction import PRESETS
from attacks.reconstruction.components import MASKS
from attacks.reconstruction.defended import adapted
from fedlab.data.shard import Shard
from fedlab.defenses.outpost import Outpost, largest_columns
from fedlab.defenses.pipeline import PlainGradient
from fedlab.models import build
from fedlab.server.captures import Capture
from tests.defenses.contexts import context, plain_pipeline
from tests.defenses.private import batch
from tests.defenses.updates import known
from tests.federations import finished, small


def network():
    return build("convnet", shape=(1, 8, 8), classes=10, width=8)


def gradients(settings, model, *, steps=1):
    """Gradients of some local steps on the same batch, and that without the defense."""
    images, labels = batch()
    shard = Shard(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(4).long(), 10)
    PlainGradient(model)(images, labels)
    plain = {name: p.grad.clone() for name, p in model.named_parameters()}
    pipeline = settings.wrap(plain_pipeline(model, 4), context(model, shard))
    found = []
    for _ in range(steps):
        pipeline.gradient(images, labels)
        found.append({name: p.grad.clone() for name, p in model.named_parameters()})
    return plain, found


def test_columns_of_all_tensors_are_ranked_together():
    gradient = {
        "w": torch.tensor([[1.0, 0.0, 2.0], [1.0, 0.0, 2.0]]),
        "b": torch.tensor([3.0, 0.0]),
        "scale": torch.tensor(0.5),
    }  # mean squares: 1, 0 and 4; 4.5; 0.25
    found = largest_columns(gradient, share=0.4)
    assert found["w"].tolist() == [False, False, True]
    assert bool(found["b"])
    assert not found["scale"]


def test_noise_is_in_large_columns_by_the_risk():
    model = network()
    with torch.no_grad():
        model[0].weight.mul_(100)  # a variance above 1, at which the risk ends
    plain, (found,) = gradients(Outpost(noise=2.0, noisy_share=0.5), model)
    columns = largest_columns(plain, share=0.5)
    seen = 0
    for name, p in model.named_parameters():
        risk = min(float(p.detach().var(correction=0)), 1.0)
        noisy = columns[name].expand_as(p)
        limit = plain[name].abs().flatten().sort().values[round(0.8 * p.numel())]
        kept = plain[name] * (plain[name].abs() >= limit)
        added = (found[name] - kept)[noisy]
        assert torch.equal(found[name][~noisy], kept[~noisy])
        if len(added) > 100:
            assert float(added.std()) == pytest.approx(2 * risk, rel=0.15)
            seen += 1
    assert seen >= 2


def test_first_step_always_is_changed_later_ones_less():
    plain, found = gradients(Outpost(decay=3.0), network(), steps=200)
    name = "0.weight"
    changed = [not torch.equal(each[name], plain[name]) for each in found]
    assert changed[0]
    expected = sum(1 / (1 + 3 * step) for step in range(200))  # 3.0, with a deviation of 1.2
    assert 1 <= sum(changed) < expected + 5


def test_no_noise_and_no_decay_is_pruning_alone():
    plain, found = gradients(Outpost(noise=0.0, decay=0.0), network(), steps=3)
    for each in found:
        for name, tensor in each.items():
            kept = tensor != 0
            assert torch.equal(tensor[kept], plain[name][kept])
            assert int((~kept).sum()) >= round(0.8 * tensor.numel())


def test_round_of_a_client_is_changed_and_replayed():
    """The referee sees that the update is not the gradient, and that it is what OUTPOST sends."""
    run = small(
        rounds=1,
        roles=[{"role": "leaking", "clients": "all", "batch_size": 4}],
        defenses=[{"name": "outpost", "clients": "0"}],
        reconstructions=[{"clients": "0-1", "iterations": 1}],
    )
    federation = finished(run)
    assert federation.consistency(round=1, client=0).cosine < 0.9
    assert federation.consistency(round=1, client=1).cosine > 0.99999
    rows = federation.folder.table("leakage")
    assert (rows["payload_cosine"] > 0.99999).all()


def test_masked_entries_are_close_to_the_gradient():
    """What the attack compares is signal, as the true gradient shows."""
    run = small(
        rounds=1,
        roles=[{"role": "leaking", "clients": "all", "batch_size": 1}],
        captures={"keep": "all"},
    )
    done = [finished(each) for each in (run.changed(defenses=[{"name": "outpost"}]), run)]
    one, other = (
        Capture.load(each.folder.captures, round=1, client=0).payload.tensors for each in done
    )
    kept = {name: mask.bool() for name, mask in MASKS["prominent"](one).items()}

    def likeness(chosen):
        left, right = (torch.cat([t[n][m] for n, m in chosen.items()]) for t in (one, other))
        return float(functional.cosine_similarity(left, right, dim=0))

    rest = {name: ~mask for name, mask in kept.items()}
    assert sum(int(mask.sum()) for mask in kept.values()) > 50
    assert likeness(kept) > 0.95
    assert likeness(rest) < 0.5


def test_mask_is_chosen_for_one_step():
    tensors = {"a": torch.tensor([[0.0, 1.0], [1.0, 1.0]])}
    for steps, mask in ((1, "prominent"), (2, None)):
        payload = Payload("gradient", tensors, num_examples=1, steps=steps)
        assert adapted(PRESETS["fast"], payload, known("outpost")).mask == mask


def test_parameter_without_gradient_is_left_alone():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model[1].bias.requires_grad_(False)
    images, labels = batch()
    shard = Shard(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(4).long(), 10)
    pipeline = Outpost().wrap(plain_pipeline(model, 4), context(model, shard))
    pipeline.gradient(images, labels)
    assert model[1].bias.grad is None
    assert model[1].weight.grad is not None
