"""Every set of partners is equally likely, and no image is its own partner."""

import math

import pytest
import torch

from fedlab.defenses.partners import BLOCK, Ahead, distinct, skipping
from tests.defenses.contexts import seeded


@pytest.mark.parametrize(("size", "out_of"), [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4), (3, 600)])
def test_sets_have_distinct_numbers_within_range(size, out_of):
    sets = distinct(200, size, out_of=out_of, generator=seeded())
    assert sets.shape == (200, size)
    assert all(len(row.unique()) == size for row in sets)
    assert not size or 0 <= int(sets.min()) <= int(sets.max()) < out_of


def test_every_set_is_equally_likely():
    count = 20_000
    sets = distinct(count, 3, out_of=6, generator=seeded()).sort(1).values
    _, times = torch.unique(sets, dim=0, return_counts=True)
    assert len(times) == math.comb(6, 3)
    expected = count / 20
    assert float((times - expected).abs().max()) < 5 * math.sqrt(expected)


def test_other_images_are_partners_equally_often():
    members = torch.full((6000,), 3)
    found = skipping(distinct(6000, 3, out_of=9, generator=seeded()), members)
    shares = found.flatten().bincount(minlength=10) / 6000
    assert shares[3] == 0
    others = torch.cat([shares[:3], shares[4:]])
    rate = 3 / 9
    assert float((others - rate).abs().max()) < 5 * math.sqrt(rate * (1 - rate) / 6000)


def test_whole_shard_can_be_partners():
    found = skipping(distinct(5, 4, out_of=4, generator=seeded()), torch.arange(5))
    assert all(sorted([image, *row.tolist()]) == [0, 1, 2, 3, 4] for image, row in enumerate(found))


def test_buffered_rows_are_returned_once():
    drawn = []

    def draw(count):
        drawn.append(torch.arange(sum(map(len, drawn)), sum(map(len, drawn)) + count))
        return drawn[-1]

    rows = Ahead(draw)
    counts = [3, 0, BLOCK, 5, 2 * BLOCK, 1]
    found = [rows(count) for count in counts]
    assert [len(each) for each in found] == counts
    assert torch.equal(torch.cat(found), torch.arange(sum(counts)))
