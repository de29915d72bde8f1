import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from fedlab.report.figures.chance import MOST_POINTS, chance_figure
from fedlab.report.figures.colours import FAINT, defense_colour
from fedlab.report.figures.sheet import NothingToDraw
from tests.report.legible import assert_legible, said


def leakage(defense, psnr, chance=15.0, leaking=0, target="original", column="defense", **attack):
    verdicts = ["leaks"] * leaking + ["not shown"] * (len(psnr) - leaking)
    return pd.DataFrame(
        {
            column: defense,
            "target": target,
            "psnr": psnr,
            "chance_psnr": chance,
            "verdict": verdicts,
            "round": 1,
            "client": 0,
            "image": range(len(psnr)),
            "preset": "fast",
            "known_labels": True,
        }
        | attack
    )


def points(figure):
    (axes,) = figure.axes
    return {
        line.get_label(): (line.get_xdata().tolist(), to_hex(line.get_color()))
        for line in axes.lines
        if line.get_marker() == "o"
    }


def test_every_image_is_a_point_beside_its_chance():
    table = pd.concat(
        [
            leakage("none", [30.0, 40.0, math.nan], chance=[14.0, 15.0, 16.0], leaking=2),
            leakage("none", [99.0], target="mixed"),
            leakage("dp-sgd", [5.0, 6.0]),
        ]
    )
    figure = chance_figure(table)
    found = points(figure)
    assert found["open: rebuilt"] == ([30.0, 40.0], defense_colour("none").lower())
    assert found["open: chance"] == ([14.0, 15.0, 16.0], FAINT.lower())
    assert found["dp-sgd: rebuilt"][0] == [5.0, 6.0]
    words = said(figure)
    assert "2 of 3 leak" in words
    assert "1 no image" in words
    assert "0 of 2 leak" in words
    assert "open median 35.0 against chance 15.0, 2 of 3 leak" in figure.alt
    assert "several" not in words
    assert_legible(figure)


def test_each_image_is_drawn_once_by_strongest_attack():
    weak = leakage("none", [10.0, 11.0, 12.0])
    strong = leakage("none", [40.0, 41.0, 5.0], leaking=2, preset="slow", known_labels=False)
    again = leakage("none", [1.0, 50.0], leaking=1, preset="slow", known_labels=False)
    figure = chance_figure(pd.concat([weak, strong, again]))
    assert points(figure)["open: rebuilt"][0] == [40.0, 41.0, 5.0]
    assert "2 of 3 leak" in said(figure)
    assert "2 of 3 leak" in figure.alt
    assert "Of several attacks the strongest: slow, labels inferred." in said(figure).replace(
        "\n", " "
    )
    assert "slow, labels inferred" in figure.alt


def test_each_row_has_a_strongest_attack_of_its_own():
    table = pd.concat(
        [
            leakage("none", [40.0], leaking=1),
            leakage("none", [10.0], preset="slow"),
            leakage("dp-sgd", [9.0]),
            leakage("dp-sgd", [14.0], preset="slow"),
        ]
    )
    figure = chance_figure(table)
    assert points(figure)["dp-sgd: rebuilt"][0] == [14.0]
    assert "fast, labels known (open) or slow, labels known (dp-sgd)" in figure.alt
    assert_legible(figure)


def test_malicious_attacks_have_a_row_of_their_own():
    curious = leakage("pruning", [10.0, 11.0], threat="honest-but-curious")
    malicious = leakage("pruning", [60.0, 70.0], leaking=2, preset="imprint", threat="malicious")
    figure = chance_figure(pd.concat([curious, malicious]))
    found = points(figure)
    assert found["pruning: rebuilt"][0] == [10.0, 11.0]
    colour = defense_colour("pruning").lower()
    assert found["pruning, malicious server: rebuilt"] == ([60.0, 70.0], colour)
    assert "pruning, malicious server" in said(figure).replace("\n", " ")
    assert "several" not in said(figure)  # there was no choice
    assert_legible(figure)


def test_boxes_are_quartiles_and_medians():
    values = [1.0, 2.0, 3.0, 4.0, 10.0]
    (axes,) = chance_figure(leakage("none", values)).axes
    (box, _) = [patch.get_path().vertices[:, 0] for patch in axes.patches]
    assert (box.min(), box.max()) == (2.0, 4.0)
    medians = [line for line in axes.lines if line.get_linewidth() == pytest.approx(2.2)]
    assert medians[0].get_xdata().tolist() == [3.0, 3.0]


def test_of_many_images_only_outliers_are_points():
    count = MOST_POINTS + 1
    figure = chance_figure(leakage("none", np.linspace(0, 1, count)))
    assert not points(figure)
    (axes,) = figure.axes
    outer = [line for line in axes.lines if line.get_marker() == "."]
    assert 0 < sum(len(line.get_xdata()) for line in outer) < 0.2 * count
    assert f"of {count} leak" in said(figure)


def test_one_run_is_grouped_by_what_was_on():
    table = leakage("mixup", [10.0], column="defenses")
    assert "mixup" in said(chance_figure(table, by="defenses"))
    with pytest.raises(ValueError, match='no column "defense"'):
        chance_figure(table)


def test_nothing_attacked_is_a_sentence():
    with pytest.raises(NothingToDraw, match="attacked no image"):
        chance_figure(leakage("none", [1.0], target="mixed"))


def test_lost_images_and_long_names_can_be_read():
    names = [f"dp-sgd:noise_multiplier={k}:clipping_norm=0.5+quantisation" for k in range(18)]
    lost = leakage("secure-aggregation", [math.nan] * 3)
    figure = chance_figure(pd.concat([*(leakage(name, [8.0]) for name in names), lost]))
    assert_legible(figure)
    assert "3 no image" in said(figure)
    assert "and 11 more" in figure.alt


def test_skipped_and_inconclusive_images_are_counted():
    weak = {"power": 0.25, "skipped": ["", "", "too many images"]}
    table = leakage("none", [20.0, 21.0, math.nan], chance=[15.0, 15.0, math.nan], **weak)
    table["verdict"] = "inconclusive"
    figure = chance_figure(table)
    words = said(figure)
    for part in ("0 of 3 leak", "3 inconclusive", "1 no image", "power 0.25"):
        assert part in words
    assert points(figure)["open: chance"][0] == [15.0, 15.0]
    assert_legible(figure)


def test_the_share_has_an_interval_over_clients():
    table = leakage("none", [20.0] * 4, leaking=2, client=[0, 0, 1, 1])
    assert "2 of 4 leak (0 to 100 %)" in said(chance_figure(table))
