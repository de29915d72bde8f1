"""The inner attack lowers its loss within its bounds and changes nothing else."""

import copy
from dataclasses import replace

import pytest
import torch

from attacks.gradients import batch_gradient
from attacks.reconstruction.objectives import misalignment
from fedlab.data.shard import Shard
from fedlab.defenses.adversarial import AdversarialPoisoning, poisoned
from fedlab.defenses.pipeline import Batch
from fedlab.models import build
from tests.defenses.contexts import context, plain_pipeline, seeded

EPSILON = 16 / 255


def around(norm="none", count=12):
    model = build("convnet", shape=(1, 8, 8), classes=4, width=8, norm=norm, seed=3)
    images = torch.randint(0, 256, (count, 1, 8, 8), generator=seeded(), dtype=torch.uint8)
    held = Shard(images, torch.randint(4, (count,), generator=seeded(2)), 4)
    return context(model, held, network_input=lambda pixels: pixels * 2 - 1)


def batch_of(held):
    members = torch.arange(len(held))
    return Batch(members, members.unsqueeze(1), held.images.float() / 255, held.labels)


def attacked(where, **given):
    settings = AdversarialPoisoning(**given)
    return poisoned(batch_of(where.shard), where, settings, generator=seeded())


def cost(where, batch):
    """Loss by its definition: gradient of the second half against that of the targets."""
    half = len(batch.members) // 2
    parameters = {name: p.detach() for name, p in where.model.named_parameters()}
    buffers = dict(where.model.named_buffers())
    values, times = where.shard.labels[half:].unique(return_counts=True)
    fake = values[times.argmax()].repeat(half)
    where.model.eval()
    poison, target = (
        batch_gradient(where.model, parameters, buffers, where.network_input(pixels), labels)
        for pixels, labels in (
            (batch.pixels[half:], batch.labels[half:]),
            (batch.pixels[:half], fake),
        )
    )
    one, other = (torch.cat([g.flatten() for g in each.values()]) for each in (poison, target))
    cosine = torch.nn.functional.cosine_similarity(one, other, dim=0)
    assert float(misalignment(target)(poison)) == pytest.approx(1 - float(cosine), abs=1e-5)
    return 1 - float(cosine)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_inner_attack_beats_the_random_control(norm):
    where = around(norm)
    random = cost(where, attacked(where, inner="random"))
    assert cost(where, attacked(where, steps=5)) < random - 0.02
    # With steps too small to cross a kink of the network, each step lowers the loss.
    small = [cost(where, attacked(where, steps=steps, lr=1e-4)) for steps in (1, 2, 3)]
    assert random > small[0] > small[1] > small[2]


@pytest.mark.parametrize("inner", ["alignment", "random"])
@pytest.mark.parametrize("epsilon", [EPSILON, 0.5])
def test_second_half_changes_within_epsilon(inner, epsilon):
    where = around()
    clean = batch_of(where.shard)
    found = attacked(where, inner=inner, epsilon=epsilon, lr=1.0)
    assert torch.equal(found.pixels[:6], clean.pixels[:6])
    change = (found.pixels - clean.pixels)[6:].abs()
    assert bool(change.flatten(1).any(1).all())
    assert epsilon * 0.9 < float(change.max()) <= epsilon + 1e-6
    assert 0 <= float(found.pixels.min()) <= float(found.pixels.max()) <= 1
    assert torch.equal(found.labels, clean.labels)  # the targets keep their true labels
    assert torch.equal(found.members, clean.members)


def test_inner_step_is_signed_adam():
    """The first step of Adam on a sign has the size of the learning rate."""
    where = around()
    start, one = attacked(where, inner="random"), attacked(where, steps=1, lr=0.1)
    moved = (one.pixels - start.pixels)[6:].abs()
    inside = (start.pixels > 0.01) & (start.pixels < 0.99)
    free = inside[6:] & ((start.pixels - batch_of(where.shard).pixels)[6:].abs() < 0.8 * EPSILON)
    torch.testing.assert_close(
        moved[free], torch.full_like(moved[free], 0.1 * EPSILON), rtol=1e-2, atol=1e-5
    )


def test_inner_attack_leaves_the_network_unchanged():
    where = around("batch")
    where.model.train()
    before = copy.deepcopy(where.model.state_dict())
    attacked(where)
    assert all(module.training for module in where.model.modules())
    after = where.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.grad is None for p in where.model.parameters())


def test_single_image_stays_unchanged():
    where = around(count=1)
    assert torch.equal(attacked(where).pixels, batch_of(where.shard).pixels)


def test_inner_attack_follows_earlier_transforms():
    where = around()
    plain = plain_pipeline(
        where.model, 12, transform=lambda batch: replace(batch, pixels=batch.pixels / 2)
    )
    pipeline = AdversarialPoisoning().wrap(plain, where)
    found = pipeline.transform(batch_of(where.shard))
    halved = batch_of(where.shard).pixels / 2
    assert float((found.pixels - halved).abs().max()) <= EPSILON + 1e-6
    assert pipeline.planned == ()
