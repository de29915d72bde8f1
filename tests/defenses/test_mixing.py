"""Mixup and CutMix: pixels and labels of the mixtures match their sources and weights."""

import pytest
import torch
from torch.nn import functional

from fedlab.data.shard import Shard
from fedlab.defenses.cutmix import CutMix, cutmix
from fedlab.defenses.mixup import Mixup, mixup
from fedlab.defenses.pipeline import Batch
from tests.defenses.contexts import context, plain_pipeline, seeded

CLASSES = 9


def batch_of(count=9, height=7, width=5):
    """A batch in which each image has one value and its own class."""
    members = torch.arange(count)
    pixels = (members + 1).float().view(-1, 1, 1, 1).expand(count, 2, height, width).clone()
    return Batch(members, members.unsqueeze(1), pixels, members % CLASSES)


def mixed(k=3, seed=0, batch=None, alpha=1.0):
    return mixup(batch or batch_of(), k=k, alpha=alpha, classes=CLASSES, generator=seeded(seed))


@pytest.mark.parametrize("k", [2, 3, 5])
def test_mixup_is_the_weighted_sum_of_its_sources(k):
    batch, found = batch_of(), mixed(k)
    assert found.sources.shape == (9, k)
    assert torch.equal(found.sources[:, 0], batch.members)
    for place in range(k):  # each is an order of the whole batch
        assert sorted(found.sources[:, place].tolist()) == list(range(9))
    one_hot = functional.one_hot(batch.labels, CLASSES).float()
    sums = one_hot[found.sources]
    weights = torch.linalg.lstsq(
        sums.transpose(1, 2).reshape(-1, k), found.labels.reshape(-1, 1)
    ).solution[:, 0]
    assert float(weights.sum()) == pytest.approx(1, abs=1e-5)
    assert float(weights.min()) > 0
    assert len(weights.unique()) == k
    labels = torch.einsum("k,bkc->bc", weights, sums)
    pixels = torch.einsum("k,bk...->b...", weights, batch.pixels[found.sources])
    torch.testing.assert_close(found.labels, labels)
    torch.testing.assert_close(found.pixels, pixels)
    torch.testing.assert_close(found.labels.sum(1), torch.ones(9))


def test_mixup_draws_weights_and_orders_per_batch():
    one, other = mixed(seed=0), mixed(seed=1)
    assert not torch.equal(one.sources, other.sources)
    drawn = seeded()
    first, second = (
        mixup(batch_of(), k=2, alpha=1.0, classes=CLASSES, generator=drawn) for _ in range(2)
    )
    assert not torch.equal(first.labels, second.labels)


def pasted(seed, *, probability=1.0, alpha=1.0, batch=None):
    return cutmix(
        batch or batch_of(),
        alpha=alpha,
        probability=probability,
        classes=CLASSES,
        generator=seeded(seed),
    )


def test_cutmix_labels_equal_the_area_of_the_box():
    """Every image has one value, which shows the box; some boxes are clipped."""
    clipped = whole = 0
    for seed in range(60):
        found = pasted(seed)
        own, other = found.sources.T
        for row in range(9):
            inside = found.pixels[row, 0] == other[row] + 1
            if own[row] == other[row]:
                assert found.labels[row, own[row]] == pytest.approx(1)
                continue
            assert torch.equal(found.pixels[row, 0] == own[row] + 1, ~inside)
            share = float(inside.double().mean())
            assert float(found.labels[row, other[row]]) == pytest.approx(share, abs=1e-6)
            assert float(found.labels[row, own[row]]) == pytest.approx(1 - share, abs=1e-6)
            rows, columns = inside.any(1), inside.any(0)
            assert torch.equal(inside, rows.unsqueeze(1) & columns.unsqueeze(0))
            border = rows[0] or rows[-1] or columns[0] or columns[-1]
            clipped, whole = clipped + bool(border), whole + (not border)
        assert torch.equal(found.pixels[:, 0], found.pixels[:, 1])
    assert clipped > 50
    assert whole > 50


def test_cutmix_area_follows_its_distribution():
    """For Beta(20, 20) the box covers half the area on average, less if it is clipped."""
    batch = batch_of(2, 64, 64)
    areas = [
        float(1 - found.labels[0, 0])
        for seed in range(400)
        if (found := pasted(seed, alpha=20.0, batch=batch)).sources[0, 1] != 0
    ]
    largest = max(areas)
    assert 0.5 < largest < 0.75
    assert 0.2 < sum(areas) / len(areas) < 0.4


def test_cutmix_mixes_with_its_probability():
    batch, drawn = batch_of(), seeded()
    plain = functional.one_hot(batch.labels, CLASSES).float()
    left = 0
    for _ in range(400):
        found = cutmix(batch, alpha=1.0, probability=0.25, classes=CLASSES, generator=drawn)
        assert found.sources.shape == (9, 2)
        assert found.labels.dtype == torch.float32
        left += torch.equal(found.sources[:, 0], found.sources[:, 1])
        if torch.equal(found.sources[:, 0], found.sources[:, 1]):
            assert torch.equal(found.pixels, batch.pixels)
            assert torch.equal(found.labels, plain)
    assert 260 < left < 340


@pytest.mark.parametrize("settings", [Mixup(k=3), CutMix(probability=1.0)])
@pytest.mark.parametrize("count", [0, 1, 4])
def test_mixing_takes_any_batch_and_charges_nothing(settings, count):
    model = torch.nn.Linear(9, 4)
    held = Shard(torch.zeros(9, 2, 7, 5, dtype=torch.uint8), torch.arange(9), CLASSES)
    plain = plain_pipeline(model, 9, batch_size=4)
    pipeline = settings.wrap(plain, context(model, held))
    batch = batch_of(count)
    before = batch.pixels.clone()
    found = pipeline.transform(batch)
    assert found.pixels.shape == (count, 2, 7, 5)
    assert found.labels.shape == (count, CLASSES)
    torch.testing.assert_close(found.labels.sum(1), torch.ones(count))
    assert torch.equal(batch.pixels, before)
    assert pipeline.planned == ()
