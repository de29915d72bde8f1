import math

import numpy as np
import pytest
from matplotlib.colors import to_hex

from fedlab.report.figures.colours import OTHER_COLOUR, defense_colour
from fedlab.report.figures.frontier import frontier_figure
from tests.report.frames import arm, frame
from tests.report.legible import assert_legible, said, texts_of

NAN, INF = math.nan, math.inf


def marks(figure):
    """The large markers: centre, colour and kind by name of the arm."""
    axes, *_ = figure.axes
    found = {}
    for container in axes.containers:
        line, _, bars = container
        (x,), (y,) = line.get_xdata(), line.get_ydata()
        reach = [bar.get_segments()[0] for bar in bars]
        found[container.get_label()] = (x, y, to_hex(line.get_color()), line.get_marker(), reach)
    return found


def test_markers_are_medians_and_bars_are_ranges():
    figure = frontier_figure(frame(*arm("none", 9.0, 0.8), *arm("dp-sgd", -4.0, 0.6)))
    x, y, colour, _, (across, up) = marks(figure)["none"]
    assert (x, y) == pytest.approx((9.0, 0.8))
    assert across[:, 0] == pytest.approx([8.5, 9.5])
    assert up[:, 1] == pytest.approx([0.79, 0.81])  # of the last round only
    assert colour == defense_colour("none").lower()
    (axes,) = figure.axes
    seeds = [points.get_offsets() for points in axes.collections if len(points.get_offsets()) == 3]
    assert np.asarray(seeds[0]) == pytest.approx(np.array([[8.5, 0.79], [9, 0.8], [9.5, 0.81]]))
    assert "n = 3 seeds" in said(figure)


def test_the_strongest_attack_on_each_defense_counts():
    rows = [
        *arm("none", 9.0, 0.8, attack="weak"),
        *arm("none", 20.0, 0.8, attack="strong"),
        *arm("dp-sgd", 2.0, 0.6, attack="weak"),
        *arm("dp-sgd", 1.0, 0.6, attack="strong"),
    ]
    figure = frontier_figure(frame(*rows))
    assert [marks(figure)[name][0] for name in ("none", "dp-sgd")] == pytest.approx([20.0, 2.0])
    assert "strongest of 2 attacks" in said(figure)


@pytest.mark.parametrize(
    ("total", "protected", "label"),
    [
        (12.2, 12.2, "dp-sgd, epsilon 12.20"),
        (INF, 4.1, "dp-sgd, epsilon 4.10 in protected rounds"),
        (INF, NAN, "dp-sgd"),
        (NAN, NAN, "dp-sgd"),
    ],
)
def test_the_label_says_the_epsilon(total, protected, label):
    facts = {"epsilon_total": total, "epsilon_protected": protected}
    rows = list(arm("dp-sgd", -4.0, 0.6, **facts))
    for each in rows:
        if each["round"] == 1 and not math.isnan(protected):
            each.update(epsilon_total=1.0, epsilon_protected=1.0)
    words = said(frontier_figure(frame(*rows))).splitlines()
    at = next(place for place, line in enumerate(words) if line.startswith("dp-sgd"))
    assert label in (words[at], f"{words[at]}, {words[at + 1]}")


def test_attacked_clients_that_spend_more_say_so():
    rows = list(arm("dp-sgd", -4.0, 0.6, epsilon_total=12.2, epsilon_protected=12.2))
    for each in rows:
        if each["role"] == "leaking":
            each.update(epsilon_total=99.0, epsilon_protected=99.0)
    text = " ".join(said(frontier_figure(frame(*rows))).split())
    assert "dp-sgd epsilon 12.20, attacked 99.00" in text


def test_what_hides_a_whole_client_says_so():
    rows = arm("clip-noise", -4.0, 0.6, epsilon_total=5.0, epsilon_protected=5.0, unit="client")
    assert "epsilon 5.00 of one client" in said(frontier_figure(frame(*rows)))


def test_arms_without_leakage_are_named_in_the_notes():
    lost = list(arm("pruning", 1.0, 0.7))
    for each in lost:
        each["above_chance"] = NAN
    rows = [*arm("none", 9.0, 0.8), *arm("secure-aggregation", NAN, 0.75), *lost]
    figure = frontier_figure(frame(*rows))
    assert "not attacked: secure-aggregation (accuracy 0.75)" in said(figure)
    assert "nothing rebuilt: pruning (accuracy 0.70)" in said(figure)
    assert set(marks(figure)) == {"none"}
    assert "secure-aggregation" in figure.alt


def test_settings_and_rules_have_own_markers():
    rows = [
        *arm("dp-sgd", -4.0, 0.6),
        *arm("dp-sgd:noise_multiplier=2", -5.0, 0.5),
        *arm("dp-sgd", -4.0, 0.62, rule="Krum"),
        *arm("mixup+pruning", 0.0, 0.7),
    ]
    found = marks(frontier_figure(frame(*rows)))
    own = [mark for name, mark in found.items() if name.startswith("dp-sgd")]
    assert {colour for _, _, colour, _, _ in own} == {defense_colour("dp-sgd").lower()}
    assert len({marker for _, _, _, marker, _ in own}) == 3
    assert "dp-sgd, Krum" in found
    assert found["mixup+pruning, FedAvg"][2] == OTHER_COLOUR.lower()


def test_the_margin_of_the_verdict_is_drawn():
    figure = frontier_figure(frame(*arm("none", 9.0, 0.8)))
    (axes,) = figure.axes
    assert any(list(line.get_xdata()) == [3.0, 3.0] for line in axes.lines)
    words = " ".join(said(figure).split())
    assert "3 dB above chance: leaks from here on, if identified" in words


def crowd(seeds):
    generator = np.random.default_rng(0)
    names = ["none", *(f"dp-sgd:noise_multiplier={k}:clipping_norm=0.5" for k in range(17))]
    for place, name in enumerate(names):
        above, accuracy = generator.normal(0, 1.5), 0.7 + generator.normal(0, 0.04)
        facts = {"epsilon_total": INF, "epsilon_protected": 3.0 + place} if place else {}
        yield from arm(name, above, accuracy, seeds=range(seeds), **facts)


@pytest.mark.parametrize("seeds", [1, 3])
def test_eighteen_long_names_can_be_read(seeds):
    figure = frontier_figure(frame(*crowd(seeds)))
    assert_legible(figure)
    drawn = marks(figure)
    assert len({(colour, marker) for _, _, colour, marker, _ in drawn.values()}) == 18
    (axes,) = figure.axes
    keys = axes.get_legend().legend_handles[2:]  # without bars, which would hide the marks
    assert {(to_hex(k.get_color()), k.get_marker()) for k in keys} == {
        (colour, marker) for _, _, colour, marker, _ in drawn.values()
    }
    names = [text.get_text() for text in axes.get_legend().get_texts()][2:]
    for name, text in zip(drawn, names, strict=True):
        assert "".join(text.split()).startswith(name)
    boxes = [box for text, box in texts_of(figure) if text.get_text() in names]
    assert not any(axes.bbox.overlaps(box) for box in boxes)


def test_one_arm_and_one_seed_make_a_figure():
    figure = frontier_figure(frame(*arm("none", 40.0, 0.8, seeds=(0,))))
    assert_legible(figure)
    assert "no spread" in said(figure)
    assert "+39.5 dB" in figure.alt  # of the first of three seeds


def test_what_cannot_be_drawn():
    with pytest.raises(ValueError, match="no rows"):
        frontier_figure(frame())
    with pytest.raises(ValueError, match="nothing was rebuilt"):
        frontier_figure(frame(*arm("none", NAN, 0.8)))


def test_zone_that_no_attack_reaches_is_shaded():
    rows = [
        *arm("none", 9.0, 0.8, identified=0.9, ceiling_identified=1.0),
        *arm("dp-sgd", -4.0, 0.6, identified=0.05, ceiling_identified=0.25),
    ]
    figure = frontier_figure(frame(*rows))
    _, below = figure.axes
    (zone,) = below.patches
    assert (zone.get_x(), zone.get_x() + zone.get_width()) == pytest.approx((0.25, 1.0))
    assert [line.get_xdata()[0] for line in below.lines] == pytest.approx([0.9, 0.25, 0.05])
    assert "dp-sgd 5% of images identified, at most 25%" in figure.alt
    assert_legible(figure)


@pytest.mark.parametrize("name", ["dp-sgd", "dp-sgd:noise_multiplier=2:clipping_norm=0.5+pruning"])
def test_every_row_of_identification_has_its_name(name):
    rows = [
        *arm("none", 9.0, 0.8, identified=0.9, ceiling_identified=1.0),
        *arm(name, -4.0, 0.6, identified=0.05, ceiling_identified=0.25),
    ]
    figure = frontier_figure(frame(*rows))
    assert_legible(figure)
    above, below = figure.axes
    labels = {round(t.get_position()[1]): t.get_text() for t in below.get_yticklabels()}
    assert ["".join(labels[place].split()) for place in (0, 1)] == ["none", name]
    assert below.bbox.width == pytest.approx(above.bbox.width, rel=0.02)


def test_without_ceilings_there_is_one_plot():
    figure = frontier_figure(frame(*arm("none", 9.0, 0.8, ceiling_identified=1.0)))
    assert len(figure.axes) == 1
