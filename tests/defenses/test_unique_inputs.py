"""The first input of each image is unique, and repeated inputs are recognised."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlab.defenses.pipeline import Batch
from fedlab.defenses.unique_inputs import unique_inputs


def batch(members, tint=0.0):
    """A batch whose pixels equal the member plus a tint."""
    members = torch.tensor(members, dtype=torch.int64)
    pixels = members.float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2) + tint
    return Batch(members, members.unsqueeze(1), pixels, members % 3)


@given(st.lists(st.lists(st.integers(0, 6), max_size=5, unique=True), min_size=1, max_size=6))
def test_unique_inputs_are_the_first_of_each_image(batches):
    once, order = unique_inputs([batch(members) for members in batches])
    flat = [member for members in batches for member in members]
    firsts = list(dict.fromkeys(flat))
    assert [flat[place] for place in once.tolist()] == firsts
    assert once.tolist() == [flat.index(member) for member in firsts]
    assert [[firsts[place] for place in step.tolist()] for step in order] == batches


def test_image_with_changed_inputs_has_no_order():
    again = [batch([2, 0]), batch([1]), batch([0, 2], tint=0.1)]
    once, order = unique_inputs(again)
    assert once.tolist() == [0, 1, 2]
    assert order is None
    other = batch([0, 2])
    relabelled = Batch(other.members, other.sources, other.pixels, other.labels + 1)
    assert unique_inputs([batch([2, 0]), relabelled])[1] is None
    assert unique_inputs([batch([2, 0], tint=0.1), batch([1], tint=0.5)])[1] is not None
