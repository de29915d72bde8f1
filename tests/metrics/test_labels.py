import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedlab.metrics.labels import exact_labels, label_accuracy, soft_label_distance


@pytest.mark.parametrize(
    ("recovered", "truth", "expected"),
    [
        ([1, 2, 3], [3, 1, 2], 1.0),
        ([0, 0], [1, 1], 0.0),
        ([5, 5, 5, 5], [5, 6, 7, 8], 0.25),
        ([], [1, 2], 0.5),
        ([0] * 9, [1], 0.0),
        ([], [], 1.0),
        ([1], [], 0.0),
    ],
)
def test_by_hand(recovered: list[int], truth: list[int], expected: float) -> None:
    found = label_accuracy(
        torch.tensor(recovered, dtype=torch.int64), torch.tensor(truth, dtype=torch.int64)
    )
    assert found == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40))
def test_equals_the_share_of_the_multiset_overlap(pairs: list[tuple[int, int]]) -> None:
    recovered, truth = (list(side) for side in zip(*pairs, strict=True))
    overlap = sum(min(recovered.count(c), truth.count(c)) for c in range(10)) / len(truth)
    assert label_accuracy(torch.tensor(recovered), torch.tensor(truth)) == pytest.approx(overlap)


@given(
    st.lists(st.integers(0, 3), max_size=5).flatmap(
        lambda truth: st.tuples(
            st.just(truth),
            st.one_of(st.permutations(truth), st.lists(st.integers(0, 3), max_size=5)),
        )
    )
)
def test_labels_are_exact_if_sorted_they_are_the_same(pair: tuple[list[int], list[int]]) -> None:
    truth, recovered = (torch.tensor(side, dtype=torch.int64) for side in pair)
    assert exact_labels(recovered, truth) == (sorted(pair[0]) == sorted(pair[1]))
    if len(truth) == len(recovered):
        assert exact_labels(recovered, truth) == (label_accuracy(recovered, truth) == 1)


def test_soft_labels() -> None:
    truth = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]])
    assert soft_label_distance(truth.flip(0), truth) == 0.0
    assert soft_label_distance(torch.eye(3)[[0, 0]], torch.eye(3)[[1, 2]]) == 2.0
    assert soft_label_distance(torch.eye(3)[[0, 1]], truth) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="cannot be compared"):
        soft_label_distance(torch.eye(2), truth)
