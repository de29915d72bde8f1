"""Figures against swept settings, against epsilon, and at equal accuracy show the summary."""

import math

import pandas as pd
import pytest

from fedlab.report.figures.sheet import NothingToDraw
from fedlab.report.figures.sweep import accuracy_figure, epsilon_figure, sweep_figure
from tests.report.frames import arm, frame, row
from tests.report.legible import assert_legible


def table(*points, defense="dp-sgd"):
    """Arms with one attacked client, each by settings, leaking images of 4, accuracy, epsilon."""
    rows = []
    for settings, leaking, accuracy, epsilon in points:
        words = " ".join(f"{name}={value}" for name, value in settings.items())
        common = {"defense": defense, "grid": words, "round": 1, "accuracy": accuracy}
        common |= {"epsilon_protected": epsilon, "epsilon_total": epsilon}
        attack = {"images": 4, "leaking": leaking, "above_chance": 5.0, "attack": "fast"}
        for seed in (0, 1):
            rows += [row(**common | attack | {"seed": seed, "role": "leaking", "client": 0})]
            rows += [row(**common | {"attack": "fast", "seed": seed, "client": 1})]
    found = frame(*rows)
    for place, (settings, *_) in enumerate(points):
        for name, value in settings.items():
            found.loc[4 * place : 4 * place + 3, f"grid.{name}"] = value
    return found


def lines(axes):
    return {
        each.get_label(): (list(each.lines[0].get_xdata()), list(each.lines[0].get_ydata()))
        for each in axes.containers
    }


def test_curves_are_over_the_swept_setting():
    figure = sweep_figure(
        table(({"training.lr": 0.1}, 4, 0.8, 2.0), ({"training.lr": 0.001}, 0, 0.5, 1.0))
    )
    leaking, accuracy, epsilon = figure.axes
    xs, ys = lines(leaking)["dp-sgd"]
    assert xs == [0.001, 0.1]
    assert ys == [0.0, 1.0]
    assert lines(accuracy)["dp-sgd"][1] == pytest.approx([0.5, 0.8])
    assert lines(epsilon)["dp-sgd"][1] == pytest.approx([1.0, 2.0])
    assert leaking.get_xscale() == "log"
    assert leaking.get_xlabel() == "lr"
    assert_legible(figure)


def test_words_are_places_on_the_axis():
    figure = sweep_figure(table(*[({"model.name": n}, 2, 0.5, math.inf) for n in ("lenet", "mlp")]))
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["lenet", "mlp"]
    assert lines(axes)["dp-sgd"][0] == [0, 1]


def test_two_settings_are_a_heat_map():
    points = [
        ({"training.lr": lr, "roles.0.batch_size": size}, leaking, 0.5, math.inf)
        for lr, size, leaking in ((0.1, 1, 4), (0.1, 8, 2), (0.2, 1, 0))
    ]
    figure = sweep_figure(table(*points))
    (axes,) = figure.axes
    (mesh,) = axes.collections
    shares = mesh.get_array().filled(math.nan)
    assert shares.shape == (2, 2)
    assert math.isnan(float(shares[1, 1]))  # that run has no result
    assert float(shares[0, 0]) == 2 * float(shares[0, 1]) > float(shares[1, 0]) == 0
    assert axes.get_ylabel() == "lr"
    assert_legible(figure)


def test_three_settings_name_their_curves():
    points = [
        ({"training.lr": lr, "a.b": b, "c.d": 1}, 2, 0.5, math.inf) for lr in (1, 2) for b in (3, 4)
    ]
    names = set(lines(sweep_figure(table(*points)).axes[0]))
    assert names == {"dp-sgd b=3 d=1", "dp-sgd b=4 d=1"}


def test_leakage_is_drawn_against_epsilon():
    private = table(
        ({"defenses.dp-sgd.s": 1}, 1, 0.5, 1.0), ({"defenses.dp-sgd.s": 2}, 4, 0.7, 8.0)
    )
    open_arm = table(({"defenses.dp-sgd.s": 1}, 3, 0.8, math.inf), defense="none")
    figure = epsilon_figure(pd.concat([open_arm, private], ignore_index=True))
    shares, above = figure.axes
    assert lines(shares) == {"dp-sgd": ([1.0, 8.0], [0.25, 1.0])}
    assert lines(above)["dp-sgd"][1] == [5.0, 5.0]
    (undefended,) = [line for line in shares.lines if line.get_linestyle() == "--"]
    assert set(undefended.get_ydata()) == {0.75}
    assert shares.get_xscale() == "log"
    with pytest.raises(NothingToDraw, match="finite epsilon"):
        epsilon_figure(open_arm)


def test_defenses_meet_at_equal_accuracy():
    points = [
        ({"defenses.dp-sgd.s": n}, leaking, acc, math.inf)
        for n, leaking, acc in ((1, 4, 0.9), (2, 0, 0.6), (3, 2, 0.7))
    ]
    figure = accuracy_figure(table(*points))
    points, line = figure.axes[0].lines
    assert list(points.get_ydata()) == [1.0, 0.0, 0.5]
    assert line.get_drawstyle() == "steps-post"  # accuracies fall, so a share holds up to the next
    assert list(line.get_xdata()) == pytest.approx([0.9, 0.7, 0.6])
    assert list(line.get_ydata()) == [1.0, 0.5, 0.0]
    assert "dp-sgd 0.00 at accuracy 0.60" in figure.alt


def test_combined_defenses_have_a_curve_of_their_own():
    arms = [table(({}, 2, 0.5, 1.0), defense=d) for d in ("dp-sgd:a=1", "dp-sgd:a=2+pruning")]
    figure = epsilon_figure(pd.concat(arms, ignore_index=True))
    assert set(lines(figure.axes[0])) == {"dp-sgd", "dp-sgd+pruning"}


def test_figures_without_content_say_why():
    with pytest.raises(NothingToDraw, match="sweeps no setting"):
        sweep_figure(frame(*arm("none", 5.0, 0.8)))
    with pytest.raises(NothingToDraw, match="nobody was attacked"):
        accuracy_figure(frame(*arm("none", math.nan, 0.8)))
    for draw in (sweep_figure, epsilon_figure, accuracy_figure):
        with pytest.raises(NothingToDraw, match="no rows"):
            draw(frame())


def test_settings_of_another_defense_are_a_dashed_line():
    open = table(({}, 4, 0.9, math.inf), defense="none")
    noisy = table(
        ({"defenses.dp-sgd.noise_multiplier": 0.5}, 2, 0.8, 2.0),
        ({"defenses.dp-sgd.noise_multiplier": 1.0}, 0, 0.7, 1.0),
    )
    figure = sweep_figure(pd.concat([open, noisy], ignore_index=True))
    leaking = figure.axes[0]
    assert lines(leaking)["dp-sgd"] == ([0.5, 1.0], [0.5, 0.0])
    (dashed,) = [each for each in leaking.lines if each.get_label() == "none"]
    assert (dashed.get_linestyle(), set(dashed.get_ydata())) == ("--", {1.0})
    assert "none" in [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]
    assert_legible(figure)


def test_settings_of_another_defense_fill_a_row_of_the_heat_map():
    noise = "defenses.dp-sgd.noise_multiplier"
    open = table(*[({"b.size": b}, 5 - b, 0.9, math.inf) for b in (1, 2)], defense="none")
    noisy = table(*[({"b.size": b, noise: n}, 0, 0.8, n) for b in (1, 2) for n in (0.5, 1.0)])
    figure = sweep_figure(pd.concat([open, noisy], ignore_index=True))
    shares = figure.axes[0].collections[0].get_array()
    assert shares.tolist() == [[1.0, 1.0], [0.75, 0.75]]


def test_a_setting_of_runs_that_all_failed_is_no_axis():
    alone = table(({}, 4, 0.9, math.inf), defense="none")
    alone["grid.defenses.dp-sgd.noise_multiplier"] = None
    with pytest.raises(NothingToDraw, match="sweeps no setting"):
        sweep_figure(alone)


def test_small_differences_do_not_fill_the_axis():
    points = [({"training.lr": lr}, 0, accuracy, 1.0) for lr, accuracy in ((1, 0.7), (2, 0.701))]
    _, accuracy, _ = sweep_figure(table(*points)).axes
    low, high = accuracy.get_ylim()
    assert high - low == pytest.approx(0.1)
    assert low < 0.66 < 0.74 < high


def test_one_client_has_no_interval():
    one = table(({"training.lr": 1}, 2, 0.7, 1.0), ({"training.lr": 2}, 2, 0.7, 1.0))
    leaking = sweep_figure(one[one["seed"] == 0]).axes[0]
    (bars,) = [each for each in leaking.collections if hasattr(each, "get_segments")]
    assert all(abs(top - bottom) < 1e-9 for (_, bottom), (_, top) in bars.get_segments())
