"""MaxUp trains on the copy with the largest loss."""

import copy

import pytest
import torch
from torch.nn import functional

from fedlab.data.shard import Shard
from fedlab.defenses.cutout import Cutout
from fedlab.defenses.dp_sgd import DPSGD
from fedlab.defenses.flip_crop import FlipCrop
from fedlab.defenses.maxup import MaxUp, worst
from fedlab.defenses.pipeline import Batch
from fedlab.models import build
from tests.defenses.contexts import context, plain_pipeline, seeded


def around(norm="none", **given):
    model = build("convnet", shape=(1, 8, 8), classes=4, width=4, norm=norm)
    images = torch.randint(0, 256, (12, 1, 8, 8), generator=seeded(), dtype=torch.uint8)
    held = Shard(images, torch.arange(12) % 4, 4)
    return context(model, held, network_input=lambda pixels: pixels * 2 - 1, **given)


def batch_of(held):
    members = torch.arange(len(held))
    return Batch(members, members.unsqueeze(1), held.images.float() / 255, held.labels)


def losses(setting, pixels, labels):
    outputs = setting.model(setting.network_input(pixels))
    return functional.cross_entropy(outputs, labels, reduction="none").detach()


@pytest.mark.parametrize("augmentation", ["cutout", "flip-crop"])
@pytest.mark.parametrize("soft", [False, True])
def test_each_image_gets_its_worst_copy(augmentation, soft):
    where = around()
    batch = batch_of(where.shard)
    if soft:
        batch = Batch(
            batch.members, batch.sources, batch.pixels, torch.rand(12, 4, generator=seeded())
        )
    settings = MaxUp(copies=5, augmentation=augmentation)
    model = where.model
    plain = plain_pipeline(model, 12)
    chosen = settings.wrap(plain, where).transform(batch)
    default = Cutout() if augmentation == "cutout" else FlipCrop()
    change = default.pixel_change(where, where.stream("maxup"))
    copies = [change(batch.pixels) for _ in range(5)]
    table = torch.stack([losses(where, each, batch.labels) for each in copies])
    picked = table.argmax(0)
    assert len(picked.unique()) > 1
    expected = torch.stack(copies)[picked, torch.arange(12)]
    assert torch.equal(chosen.pixels, expected)
    assert torch.equal(chosen.labels, batch.labels)
    found = losses(where, chosen.pixels, batch.labels)
    torch.testing.assert_close(found, table.max(0).values)


def test_maxup_leaves_the_network_unchanged():
    where = around(norm="batch")
    where.model.train()
    before = copy.deepcopy(where.model.state_dict())
    change = Cutout().pixel_change(where, seeded())
    worst(batch_of(where.shard), change, where, copies=3)
    assert where.model.training
    after = where.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.grad is None for p in where.model.parameters())


def test_empty_batch_stays_empty():
    where = around()
    whole = batch_of(where.shard)
    empty = Batch(whole.members[:0], whole.sources[:0], whole.pixels[:0], whole.labels[:0])
    change = Cutout().pixel_change(where, seeded())
    assert len(worst(empty, change, where, copies=3).pixels) == 0


def test_maxup_keeps_the_sensitivity_of_dp_sgd():
    """The worst copy of an image depends on this image only, so clipping still bounds it."""
    where = around()
    batch = batch_of(where.shard)
    model = where.model
    plain = plain_pipeline(model, 12, batch_size=12)
    pipeline = plain
    for settings in (MaxUp(), DPSGD(noise_multiplier=0.0, clipping_norm=0.1)):
        pipeline = settings.wrap(pipeline, where)
    seen = pipeline.transform(batch)
    pipeline.gradient(where.network_input(seen.pixels), seen.labels)
    found = torch.cat([p.grad.flatten() for p in model.parameters()])
    for close in pipeline.close:
        close()
    total = torch.zeros_like(found)
    for pixels, label in zip(seen.pixels, seen.labels, strict=True):
        one = where.network_input(pixels.unsqueeze(0))
        model.zero_grad()
        functional.cross_entropy(model(one), label.unsqueeze(0)).backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
        total += gradient * min(1.0, 0.1 / float(gradient.norm() + 1e-6)) / 12
    torch.testing.assert_close(found, total, rtol=1e-4, atol=1e-6)
