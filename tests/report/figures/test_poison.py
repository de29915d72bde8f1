"""Clean and poisoned images say in words what was changed."""

import torch

from fedlab.report.figures.poison import PoisonColumn, poison_figure


def test_it_says_how_far_pixels_moved_and_which_label_is_told():
    clean = torch.full((1, 4, 4), 0.5)
    poisoned = clean.clone()
    poisoned[0, 0, 0] = 0.25
    columns = [
        PoisonColumn(clean, poisoned, label="cat", told="dog"),
        PoisonColumn(clean, clean, label="cat", told="cat"),
    ]
    alt = poison_figure(columns, title="What changed?").alt
    assert alt.startswith("What changed? ")
    assert "cat changed by up to 0.250 and trained as dog" in alt
    assert "cat changed by up to 0.000, label kept" in alt
