"""Augmentations change each image by itself, with the right frequencies."""

import pytest
import torch

from fedlab.data.shard import Shard
from fedlab.defenses.cutout import Cutout, cutout
from fedlab.defenses.flip_crop import FlipCrop
from fedlab.defenses.pipeline import Batch
from tests.defenses.contexts import context, plain_pipeline, seeded


def masks(count=4000, side=0.5, height=6, width=8, channels=1):
    pixels = torch.ones(count, channels, height, width)
    fill = torch.full((channels, 1, 1), -3.0)
    return cutout(pixels, side=side, fill=fill, generator=seeded()) == -3.0


@pytest.mark.parametrize(("side", "size"), [(0.5, 3), (1.0, 6), (0.01, 1), (1 / 3, 2)])
def test_cutout_masks_a_square_of_the_set_side(side, size):
    masked = masks(side=side, channels=3)
    assert torch.equal(masked[:, 0], masked[:, 1])
    rows, columns = masked[:, 0].any(2), masked[:, 0].any(1)
    assert torch.equal(masked[:, 0], rows.unsqueeze(2) & columns.unsqueeze(1))  # a rectangle
    for spans, length in ((rows, 6), (columns, 8)):
        sizes = spans.sum(1)
        assert int(sizes.max()) == min(size, length)
        edges = spans[:, 0] | spans[:, -1]
        assert (sizes[~edges] == size).all()  # only a border makes it smaller


def test_cutout_in_a_corner_is_clipped():
    """A square of side 3 with its centre in a corner masks 2 x 2 pixels."""
    corner = torch.zeros(6, 8, dtype=torch.bool)
    corner[:2, :2] = True
    share = float((masks()[:, 0] == corner).flatten(1).all(1).double().mean())
    assert share == pytest.approx(1 / 48, abs=0.01)


def test_cutout_centres_are_uniform():
    """A square of one pixel shows its centre."""
    times = masks(count=48_000, side=0.01)[:, 0].sum(0)
    assert times.sum() == 48_000
    assert float((times - 1000).abs().max()) < 5 * 1000**0.5


def wrapped(settings, *, images=30, stream=None, **given):
    held = Shard(
        torch.randint(0, 256, (images, 3, 8, 8), generator=seeded(), dtype=torch.uint8),
        torch.arange(images) % 4,
        4,
    )
    model = torch.nn.Linear(9, 4)
    plain = plain_pipeline(model, images)
    setting = context(model, held, **given)
    members = torch.arange(images)
    batch = Batch(members, members.unsqueeze(1), held.images.float() / 255, held.labels)
    return settings.wrap(plain, setting), batch


@pytest.mark.parametrize("settings", [FlipCrop(padding=2), Cutout()])
def test_augmentation_keeps_labels_and_draws_anew(settings):
    pipeline, batch = wrapped(settings)
    before = batch.pixels.clone()
    one, other = pipeline.transform(batch), pipeline.transform(batch)
    assert torch.equal(batch.pixels, before)
    assert one.pixels.shape == batch.pixels.shape
    assert not torch.equal(one.pixels, batch.pixels)
    assert not torch.equal(one.pixels, other.pixels)
    for same in ("members", "sources", "labels"):
        assert torch.equal(getattr(one, same), getattr(batch, same))
    assert pipeline.planned == ()
    again, batch = wrapped(settings)
    assert torch.equal(again.transform(batch).pixels, one.pixels)


def test_masked_pixel_is_zero_after_normalisation():
    mean, std = torch.tensor([0.3, 0.5, 0.7]).view(3, 1, 1), torch.tensor([[[0.2]]])
    pipeline, batch = wrapped(Cutout(), network_input=lambda pixels: (pixels - mean) / std)
    changed = pipeline.transform(batch).pixels
    hidden = changed != batch.pixels
    seen = (changed - mean) / std
    assert float(hidden.double().mean()) > 0.1
    torch.testing.assert_close(seen[hidden], torch.zeros(int(hidden.sum())), atol=1e-5, rtol=0)


@pytest.mark.parametrize("settings", [FlipCrop(), Cutout()])
def test_empty_batch_stays_empty(settings):
    pipeline, batch = wrapped(settings)
    empty = Batch(batch.members[:0], batch.sources[:0], batch.pixels[:0], batch.labels[:0])
    assert pipeline.transform(empty).pixels.shape == (0, 3, 8, 8)
