"""Labels lie on nothing as long as there is room, and it is said when there is none."""

import numpy as np
import pytest

from fedlab.report.figures.label_placement import place_labels

NONE, NO_BARS = np.empty((0, 2)), np.empty((0, 4))


def overlap(one, other):
    return bool((np.maximum(one[:2], other[:2]) < np.minimum(one[2:], other[2:]) - 1e-9).all())


@pytest.mark.parametrize("seed", range(4))
def test_crowded_labels_are_apart_and_inside(seed):
    generator = np.random.default_rng(seed)
    points = generator.normal((3.5, 2.0), 0.5, size=(14, 2))
    others = generator.normal((3.5, 2.0), 0.6, size=(30, 2))
    sizes = np.stack([generator.uniform(0.4, 1.5, 14), np.full(14, 0.15)], axis=1)
    placed = place_labels(points, sizes, others=others, bars=NO_BARS, room=(7, 4))
    assert placed.clear
    assert (placed.boxes[:, :2] >= 0).all()
    assert (placed.boxes[:, 2:] <= (7, 4)).all()
    assert placed.boxes[:, 2:] - placed.boxes[:, :2] == pytest.approx(sizes)
    for place, box in enumerate(placed.boxes):
        assert not any(overlap(box, other) for other in placed.boxes[:place])
        for point in (*points, *others):
            assert not ((box[:2] < point) & (point < box[2:])).all()


def test_a_lonely_label_stands_right_beside_its_point():
    sizes = np.array([[1.0, 0.2]])
    placed = place_labels(np.array([[1.0, 1.0]]), sizes, others=NONE, bars=NO_BARS, room=(4, 2))
    assert placed.boxes[0] == pytest.approx([1.14, 0.9, 2.14, 1.1])
    assert not placed.far(0, np.array([1.0, 1.0]))


def test_labels_keep_off_bars_where_they_can():
    bars = np.array([[1.0, 1.0, 3.0, 1.0]])
    sizes = np.array([[1.0, 0.2]])
    placed = place_labels(np.array([[1.0, 1.0]]), sizes, others=NONE, bars=bars, room=(4, 2))
    _, bottom, right, top = placed.boxes[0]
    assert right <= 1.0 or bottom >= 1.0 or top <= 1.0
    assert placed.clear


def test_no_room_is_not_called_clear():
    points = np.array([[0.5, 0.5], [0.5, 0.6]])
    sizes = np.array([[0.9, 0.5], [0.9, 0.5]])
    assert not place_labels(points, sizes, others=NONE, bars=NO_BARS, room=(1, 1)).clear
