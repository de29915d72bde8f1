import math

import pytest
from matplotlib.colors import to_rgb

from fedlab.report.figures.poisoning_matrix import poisoning_matrix_figure
from fedlab.report.figures.sheet import NothingToDraw
from tests.report.frames import frame, row
from tests.report.legible import assert_legible, said


def arm(defense, rule, rates, accuracy=0.8, **facts):
    for seed, rate in enumerate(rates):
        for round, share in ((1, 0.5), (2, 1.0)):
            for client in (0, 1):
                yield row(
                    defense=defense,
                    rule=rule,
                    seed=seed,
                    round=round,
                    client=client,
                    accuracy=accuracy * share,
                    attack_success_rate=rate * share,
                    **facts,
                )


TABLE = frame(
    *arm("none", "FedAvg", [0.9, 1.0, 0.5]),
    *arm("none", "Krum", [0.1, 0.2, 0.0], accuracy=0.7),
    *arm("dp-sgd", "FedAvg", [math.nan] * 3, accuracy=0.6),
)


def cells(figure):
    (axes,) = figure.axes
    return {patch.get_xy(): patch for patch in axes.patches}


def luminance(colour):
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


def test_cells_show_median_range_and_accuracy():
    figure = poisoning_matrix_figure(TABLE)
    words = said(figure)
    for text in ("0.90", "0.50 to 1.00", "accuracy 0.80", "0.10", "0.00 to 0.20", "accuracy 0.70"):
        assert text in words.splitlines()
    assert "n = 3 seeds" in words
    assert "none with FedAvg 0.90 at accuracy 0.80" in figure.alt
    assert "dp-sgd with FedAvg nobody poisons at accuracy 0.60" in figure.alt
    assert_legible(figure)


def test_chance_stands_below_where_it_is_known():
    figure = poisoning_matrix_figure(
        frame(*arm("none", "FedAvg", [0.9, 1.0, 0.5], chance_success_rate=0.03))
    )
    assert "chance 0.03" in said(figure).splitlines()
    assert "none with FedAvg 0.90 (chance 0.03) at accuracy 0.80" in figure.alt
    assert_legible(figure)


def test_darker_is_more_often_and_hatched_is_nobody():
    found = cells(poisoning_matrix_figure(TABLE))
    often, rarely = found[0, 0], found[1, 0]
    assert luminance(often.get_facecolor()) < 0.5 * luminance(rarely.get_facecolor())
    assert not often.get_hatch()
    assert found[0, 1].get_hatch()  # nobody poisons
    assert (1, 1) not in found  # no such arm


def test_what_chance_reaches_as_well_is_not_dark():
    by_itself = poisoning_matrix_figure(
        frame(*arm("none", "FedAvg", [1.0], chance_success_rate=1.0))
    )
    assert luminance(cells(by_itself)[0, 0].get_facecolor()) > 0.6
    assert "1.00" in said(by_itself).splitlines()


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.45, 0.5, 0.55, 0.7, 1.0])
def test_text_keeps_its_contrast(rate):
    figure = poisoning_matrix_figure(frame(*arm("none", "FedAvg", [rate])))
    ground = luminance(cells(figure)[0, 0].get_facecolor())
    (axes,) = figure.axes
    (text,) = [text for text in axes.texts if text.get_text() == f"{rate:.2f}"]
    ink = luminance(text.get_color())
    assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) >= 4.5


def test_scenarios_may_be_rows_or_columns():
    table = frame(
        *arm("none", "FedAvg", [0.9], scenario="witches_brew"),
        *arm("none", "FedAvg", [0.4], scenario="badnets"),
    )
    figure = poisoning_matrix_figure(table, rows="scenario", columns="defense")
    assert "witches_brew with none 0.90" in figure.alt
    with pytest.raises(ValueError, match="more than one scenario"):
        poisoning_matrix_figure(table)


def test_swept_settings_are_called_so_in_the_title():
    rows = [row | {"grid": f"lr={k}"} for k in (1, 2) for row in arm("none", "FedAvg", [0.5])]
    figure = poisoning_matrix_figure(frame(*rows), columns="grid")
    assert figure.get_suptitle().replace("\n", " ").endswith("by defense and swept settings?")


def test_what_cannot_be_drawn():
    with pytest.raises(ValueError, match="two of scenario, defense, rule"):
        poisoning_matrix_figure(TABLE, rows="seed")
    with pytest.raises(ValueError, match="two of"):
        poisoning_matrix_figure(TABLE, rows="rule", columns="rule")
    with pytest.raises(ValueError, match="no rows"):
        poisoning_matrix_figure(frame())
    with pytest.raises(NothingToDraw, match="no run has an attack success rate"):
        poisoning_matrix_figure(frame(*arm("none", "FedAvg", [math.nan])))


@pytest.mark.parametrize("turned", [False, True])
def test_many_long_names_can_be_read(turned):
    names = [f"dp-sgd:noise_multiplier={k}:clipping_norm=0.5+quantisation" for k in range(18)]
    rows = [each for name in names for each in arm(name, "FedTrimmedAvg", [0.5, 0.6])]
    rows += arm("none", "GeometricMedian", [0.5])
    axes = {"rows": "rule", "columns": "defense"} if turned else {}
    assert_legible(poisoning_matrix_figure(frame(*rows), **axes))
