import pytest
import torch

from fedlab.data.shard import Shard
from fedlab.report.figures.poison import poison_figure
from fedlab.report.figures.sheet import NothingToDraw
from fedlab.simulation.poison_preview import PoisonPreview
from tests.report.legible import assert_legible


def preview_of(images, **changes):
    grey = torch.full((images, 1, 4, 4), 128, dtype=torch.uint8)
    clean = Shard(grey, torch.zeros(images).long(), 2)
    poisoned = Shard(clean.images.clone(), clean.labels.clone(), 2)
    poisoned.images[:, 0, 0] = 64
    facts = {"client": 3, "round": 1, "attack": "badnets", "classes": ("cat", "dog")} | changes
    return PoisonPreview(clean=clean, poisoned=poisoned, **facts)


def test_the_alt_text_names_changes_and_labels():
    preview = preview_of(2)
    preview.poisoned.labels[0] = 1
    alt = poison_figure(preview).alt
    assert alt.startswith("What does client 3 train on? (badnets) ")
    assert "cat changed by up to 0.251 and trained as dog" in alt
    assert "cat changed by up to 0.251, label kept" in alt


@pytest.mark.parametrize("images", [1, 8, 20])
def test_nothing_overlaps_or_is_cut(images):
    long = ("a class whose name is long", "another class with a name")
    preview = preview_of(images, classes=long)
    preview.poisoned.labels[0] = 1
    assert_legible(poison_figure(preview, images))


def test_unchanged_images_cannot_be_drawn():
    preview = preview_of(2)
    preview.poisoned.images[:] = preview.clean.images
    with pytest.raises(NothingToDraw, match="client 3 changes none"):
        poison_figure(preview)
