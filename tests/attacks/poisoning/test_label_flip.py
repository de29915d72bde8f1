"""Tests of label flipping."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.poisoning.label_flip import flip, label_flip, random_flip


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def some_labels(n=40, classes=5):
    return torch.randint(classes, (n,), generator=seeded(1))


@settings(deadline=None, max_examples=40)
@given(share=st.floats(0.01, 1), seed=st.integers(0, 99))
def test_flips_a_share_of_all_labels(share, seed):
    labels = some_labels()
    before = labels.clone()
    flipped = label_flip(labels, num_classes=5, share=share, generator=seeded(seed))
    assert torch.equal(labels, before)
    changed = flipped != labels
    assert torch.equal(flipped[changed], 4 - labels[changed])
    # The middle class of an odd number is its own opposite.
    assert int(changed.sum()) == round(share * int((labels != 2).sum()))


@pytest.mark.parametrize("pair", [{"source": 3, "target": 0}, {"pairs": [(3, 0)]}])
def test_flips_one_class_to_another(pair):
    labels = some_labels()
    flipped = label_flip(labels, num_classes=5, share=1.0, generator=seeded(), **pair)
    assert (flipped[labels == 3] == 0).all()
    assert torch.equal(flipped[labels != 3], labels[labels != 3])


def test_pairs_are_flipped_simultaneously():
    labels = torch.tensor([0, 1, 2, 3, 4])
    assert flip(labels, num_classes=5, pairs=[(0, 1), (1, 0), (4, 2)]).tolist() == [1, 0, 2, 3, 2]
    both = flip(labels, num_classes=5, source=3, target=4, pairs=[(0, 1)])
    assert both.tolist() == [1, 1, 2, 4, 4]


@settings(deadline=None, max_examples=40)
@given(share=st.floats(0.01, 1), seed=st.integers(0, 99))
def test_share_counts_images_of_the_pairs(share, seed):
    labels, becomes = some_labels(), {3: 1, 1: 4}
    flipped = label_flip(
        labels, num_classes=5, share=share, pairs=[(3, 1), (1, 4)], generator=seeded(seed)
    )
    changed = flipped != labels
    concerned = (labels == 3) | (labels == 1)
    assert int(changed.sum()) == round(share * int(concerned.sum()))
    wrong = [becomes[label] for label in labels[changed].tolist()]
    assert flipped[changed].tolist() == wrong


@settings(deadline=None, max_examples=40)
@given(share=st.floats(0.01, 1), classes=st.integers(2, 6), seed=st.integers(0, 99))
def test_random_share_of_labels_is_wrong(share, classes, seed):
    labels = some_labels(classes=classes)
    flipped = label_flip(
        labels, num_classes=classes, share=share, random=True, generator=seeded(seed)
    )
    assert int((flipped != labels).sum()) == round(share * 40)
    assert int(flipped.min()) >= 0
    assert int(flipped.max()) < classes


def test_random_labels_are_uniform():
    labels = torch.full((30_000,), 2)
    counts = torch.bincount(random_flip(labels, num_classes=4, generator=seeded()), minlength=4)
    assert counts[2] == 0
    # Binomial with p = 1/3: the deviation is 82.
    assert all(abs(int(counts[label]) - 10_000) < 400 for label in (0, 1, 3))


@pytest.mark.parametrize("options", [{}, {"pairs": [(0, 1)]}, {"random": True}])
def test_same_generator_gives_the_same_flips(options):
    labels = some_labels()

    def chosen(seed):
        found = label_flip(labels, num_classes=5, share=0.5, generator=seeded(seed), **options)
        return found.tolist()

    assert chosen(1) == chosen(1)
    assert chosen(1) != chosen(2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": [(0, 1), (0, 2)]}, "only one wrong label"),
        ({"pairs": [(0, 5)]}, "class 5"),
        ({"pairs": [(-1, 2)]}, "class -1"),
        ({"random": True, "pairs": [(0, 1)]}, "leave the pairs out"),
        ({"random": True, "source": 0, "target": 1}, "leave the pairs out"),
    ],
)
def test_impossible_flips_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        label_flip(some_labels(), num_classes=5, share=1.0, generator=seeded(), **options)


def test_single_class_is_refused():
    with pytest.raises(ValueError, match="two classes"):
        random_flip(torch.zeros(3, dtype=torch.int64), num_classes=1, generator=seeded())
