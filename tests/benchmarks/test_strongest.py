"""The benchmark of auto beside fixed settings: disjoint images, claims that fail, kept cells."""

import numpy as np
import pytest

from benchmarks.strongest import (
    AUTO,
    FIRST_PUBLIC,
    FIRST_SCORED,
    SHARD,
    Cell,
    Outcome,
    _claim,
    _figures,
)
from fedlab.core.errors import BadInput
from fedlab.defenses.pruning import Pruning

LOST = {
    AUTO: Outcome("recognisable", 20.0),
    "fast": Outcome("not shown", 12.0),
    "breaching, tv 0.1": Outcome("leaks", 18.0),
}
WON = {**LOST, AUTO: Outcome("leaks", 21.0)}


@pytest.mark.parametrize(("images", "held"), [([LOST], False), ([WON], True), ([WON, LOST], False)])
def test_claim_fails_if_one_setting_leaks_more(images, held):
    claim = _claim("pruning", images)
    assert claim.holds is held
    assert "breaching, tv 0.1" in claim.text
    assert f"of {len(images)} images" in claim.text


def test_best_preset_and_best_of_breaching_are_shown():
    names = [figure.name for figure in _figures("pruning", [WON])]
    assert [name.split(": ")[1].rsplit(", ", 1)[0] for name in names[::3]] == list(WON)


def test_breaching_without_labels_of_mixtures_is_said():
    *_, last = _figures("mixtures", [{AUTO: WON[AUTO], "fast": WON["fast"]}])
    assert last.failure


@pytest.fixture
def images(tmp_path):
    """A file of grey images whose first pixel is their number, as far as a byte holds it."""
    count = FIRST_SCORED + 2 * SHARD
    pixels = np.zeros((count, 8, 8), np.uint8)
    pixels[:, 0, 0], pixels[:, 0, 1] = np.arange(count) % 256, np.arange(count) // 256
    labels = np.arange(count) % 10
    file = tmp_path / "images.npz"
    sets = {"train_images": pixels[:20], "train_labels": labels[:20]}
    np.savez(file, test_images=pixels, test_labels=labels, **sets)
    return str(file)


def test_public_images_and_scored_ones_are_disjoint(images):
    cell = Cell.of(images, Pruning(), 2)
    data = cell.federated.data

    def numbers(tensor):
        return (tensor[:, 0, 0, 0].int() + 256 * tensor[:, 0, 0, 1].int()).tolist()

    assert numbers(data.test_images) == list(range(FIRST_PUBLIC, FIRST_SCORED))
    for client, first in enumerate((FIRST_SCORED, FIRST_SCORED + SHARD)):
        held = numbers(cell.federated.shard(client).images)
        assert held == list(range(first, first + SHARD))


def test_too_few_test_images_are_refused(images):
    with pytest.raises(BadInput, match="lower --repeats"):
        Cell.of(images, Pruning(), 3)
