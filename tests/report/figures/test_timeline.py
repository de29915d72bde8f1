import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from fedlab import BadInput, Federation
from fedlab.privacy.ledger import Ledger
from fedlab.privacy.release import PrivacyRelease
from fedlab.report.figures.colours import defense_colour
from fedlab.report.figures.timeline import (
    NOTHING,
    OPEN,
    bands_of,
    bounded_accounts,
    timeline_figure,
)
from fedlab.results.folder import RunFolder
from tests.federations import finished, small
from tests.report.legible import assert_legible, said

LEAKING = {
    "roles": [
        {"role": "leaking", "clients": "0", "batch_size": 2},
        {"role": "poisoning", "clients": "3", "data": {"attack": "badnets"}},
    ],
    "reconstructions": [{"clients": "0", "rounds": "1,3-", "iterations": 3}],
}


@pytest.fixture(scope="module")
def federation():
    federation = Federation(small(**LEAKING))
    federation.step()
    federation.toggle("dp-sgd", on=True, clients=[0, 1], rounds="2-3")
    federation.step()
    federation.toggle("pruning", on=True, clients=[2], rounds="4")
    federation.run()
    return federation


def panel(figure, name):
    return next(axes for axes in figure.axes if axes.get_ylabel().startswith(name))


def test_the_bands_are_shares_of_the_sampled_clients(federation):
    axes = panel(federation.timeline(), "share of\nclients")
    heights = {}
    for band in axes.patches:
        values, _, baseline = band.get_data()
        heights[band.get_label()] = (values - baseline).tolist()
        name = "none" if band.get_label() == OPEN else band.get_label()
        assert to_hex(band.get_facecolor()) == defense_colour(name).lower()
    assert heights == {
        OPEN: [1.0, 0.5, 0.5, 0.75],
        "dp-sgd": [0.0, 0.5, 0.5, 0.0],
        "pruning": [0.0, 0.0, 0.0, 0.25],
    }


def test_toggles_are_marked_before_their_first_round(federation):
    figure = federation.timeline()
    marks = [line.get_xdata()[0] for line in panel(figure, "share of\nclients").lines]
    assert sorted(marks) == [1.5, 3.5]
    assert "dp-sgd on, clients 0-1" in said(figure)
    assert "pruning on, clients 2" in said(figure)


def test_curves_are_accuracy_success_and_chance(federation):
    axes = panel(federation.timeline(), "share of\ntest images")
    rows = federation.folder.rounds()
    for line, values in zip(
        axes.lines,
        (
            [row.accuracy for row in rows],
            [row.attack_success_rate for row in rows],
            [row.chance_success_rate for row in rows],
        ),
        strict=True,
    ):
        assert line.get_xdata().tolist() == [0, 1, 2, 3, 4]
        assert line.get_ydata().tolist() == pytest.approx(values)


def test_images_are_points_in_the_defense_colour(federation):
    axes = panel(federation.timeline(), "PSNR")
    seen = federation.folder.table("leakage")
    seen = seen[seen["target"] == "original"]
    drawn = [
        (
            round(float(x)),
            round(float(y), 6),
            to_hex(line.get_color()),
            to_hex(line.get_markerfacecolor()) == to_hex(line.get_color()),
        )
        for line in axes.lines
        if line.get_marker() == "o"
        for x, y in line.get_xydata()
    ]
    expected = [
        (
            row.round,
            round(row.aligned_psnr, 6),
            defense_colour(row.defenses).lower(),
            row.verdict == "leaks",
        )
        for row in seen.itertuples()
    ]
    assert sorted(drawn) == sorted(expected)
    assert {where for where, *_ in drawn} == {1, 3, 4}  # round 2 was not attacked
    band, middle = axes.patches
    by_round = seen.groupby("round")["chance_psnr"]
    values, _, baseline = band.get_data()
    assert np.nan_to_num(values) == pytest.approx(by_round.max().reindex(range(1, 5)).fillna(0))
    assert np.nan_to_num(baseline) == pytest.approx(by_round.min().reindex(range(1, 5)).fillna(0))
    medians = by_round.median().reindex(range(1, 5)).fillna(0)
    assert np.nan_to_num(middle.get_data().values) == pytest.approx(medians)


def test_epsilon_is_that_of_the_ledger(federation):
    axes = panel(federation.timeline(), "epsilon")
    curve, crosses = axes.lines
    ledger = federation.ledger
    largest = [max(ledger.until(r).protected(c) or 0 for c in range(4)) for r in range(1, 5)]
    assert curve.get_ydata().tolist() == pytest.approx([0, *largest])
    assert list(crosses.get_xdata()) == [1]
    assert "∞ in all: 4 of 4" in said(federation.timeline())


def test_it_can_be_read_and_says_its_numbers(federation):
    figure = federation.timeline()
    assert_legible(figure)
    end = federation.folder.rounds()[-1]
    assert f"accuracy {end.accuracy:.2f} after round 4" in figure.alt
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_panels_with_nothing_to_show_are_left_out():
    figure = finished(small(rounds=1)).timeline()
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "share of\nclients",
        "share of\ntest images",
    ]
    assert len(figure.axes[1].lines) == 1  # nobody poisons
    assert_legible(figure)


def test_nothing_is_drawn_before_the_first_round():
    federation = Federation(small())
    with pytest.raises(BadInput, match="no round has ended"):
        federation.timeline()
    with pytest.raises(ValueError, match="no round has ended"):
        timeline_figure(federation.folder)


def copied(federation, tmp_path, rounds):
    """A folder with the rows of a run over and over, under many defenses, some images lost."""
    run = RunFolder.create(tmp_path / "run", federation.scenario.changed(rounds=rounds))
    first = federation.folder
    names = ["none", "dp-sgd", "mixup+pruning", "cutmix+quantisation", "adversarial-poisoning"]
    clients, leakage = first.table("clients"), first.table("leakage")
    for name, table in (("clients", clients), ("leakage", leakage)):
        parts = [
            table[table["round"] == 1].assign(round=r, defenses=names[(r // 4 + (r % 3 == 0)) % 5])
            for r in range(1, rounds + 1)
        ]
        whole = pd.concat(parts)
        if name == "leakage":
            whole.loc[whole["round"] % 5 == 0, ["psnr", "aligned_psnr"]] = math.nan
        whole.to_csv(run.path / f"{name}.csv", index=False)
    lines = first.path.joinpath("rounds.jsonl").read_text().splitlines(keepends=True)
    again = [lines[1].replace('"round": 1,', f'"round": {r},') for r in range(1, rounds + 1)]
    run.path.joinpath("rounds.jsonl").write_text("".join([lines[0], *again]))
    toggle = (
        '{{"rounds": "{0}-{1}", "defense": "adversarial-poisoning", "on": true, "clients": [0]}}\n'
    )
    events = [toggle.format(r, rounds) for r in range(4, rounds, 4)]
    run.path.joinpath("toggles.jsonl").write_text("".join(events))
    return run


def test_forty_rounds_of_many_defenses_can_be_read(federation, tmp_path):
    figure = timeline_figure(copied(federation, tmp_path, 40))
    assert_legible(figure)
    assert "x: no image came out" in said(figure)
    assert "adversarial-poisoning" in said(figure).splitlines()  # in one piece
    axes = panel(figure, "PSNR")
    legend = axes.get_legend()
    names = [text.get_text() for text in legend.get_texts()]
    handles = zip(names, legend.legend_handles, strict=True)
    shapes = {name: each.get_marker() for name, each in handles if "+" in name}
    assert shapes["mixup+pruning"] != shapes["cutmix+quantisation"]
    (lost,) = [line for line in axes.lines if line.get_marker() == "x"]
    assert len(lost.get_xdata()) == 8 * 2


def test_of_many_toggles_only_the_marks_are_drawn(federation, tmp_path):
    figure = timeline_figure(copied(federation, tmp_path, 60))
    assert "14 toggles" in said(figure)
    assert len(panel(figure, "share of\nclients").lines) == 14


def test_clients_that_declined_are_a_band_of_their_own():
    clients = pd.DataFrame(
        {
            "round": [1, 1, 2, 2],
            "defenses": ["dp-sgd", "none", "dp-sgd", "none"],
            "status": ["ok", "refused", "budget", "withheld"],
        }
    )
    shares = {name: share.tolist() for name, share in bands_of(clients).items()}
    assert list(shares.items()) == [
        (OPEN, [0.5, 0]),
        ("dp-sgd", [0.5, 0]),
        (NOTHING, [0, 1]),
    ]


def test_an_image_that_was_attacked_twice_counts_once(federation, tmp_path):
    run = copied(federation, tmp_path, 4)
    table = run.table("leakage")
    again = table.assign(known_labels=False, psnr=99.0, verdict="leaks")
    malicious = again.assign(threat="malicious", preset="imprint")
    first = table.assign(verdict="not shown")
    pd.concat([first, again]).to_csv(run.path / "leakage.csv", index=False)
    figure = timeline_figure(run)
    assert "8 of 8 images leak" in figure.alt
    words = said(figure).replace("\n", " ")
    assert "PSNR of 8 images, a mark for each attack (16 in all), in the colour" in words
    pd.concat([first, malicious]).to_csv(run.path / "leakage.csv", index=False)
    assert "0 of 8 images leak, 8 of 8 images leak to a malicious server" in (
        timeline_figure(run).alt
    )


def test_accounts_without_a_bound_are_not_drawn():
    open_round = PrivacyRelease(round=1, participation=0, mechanism="none")
    assert bounded_accounts(Ledger({0: (open_round,)})) == {}
    noisy = PrivacyRelease(
        round=2, participation=1, mechanism="dp-sgd", noise_multiplier=0.0, sample_rate=0.5, steps=1
    )
    ledger = Ledger({0: (open_round, noisy), 1: ()})
    ((account, epsilons),) = bounded_accounts(ledger).items()
    assert ledger.first_open(account) == {0: 1}
    assert math.isnan(epsilons[1])
    assert math.isinf(epsilons[2])


def test_rounds_in_which_somebody_poisons_are_grey(tmp_path):
    scenario = small(
        roles=[
            {
                "role": "poisoning",
                "clients": "3",
                "rounds": "2-3",
                "data": {"attack": "label-flip"},
            }
        ]
    )
    figure = timeline_figure(finished(scenario, out=tmp_path / "run").folder)
    spans = [patch for patch in figure.axes[1].patches if patch.get_alpha() == 0.4]
    assert [span.get_x() + span.get_width() / 2 for span in spans] == [2, 3]
    assert "clients poison in rounds 2-3" in figure.alt
    assert_legible(figure)


def test_chance_far_below_every_image_is_in_range(federation, monkeypatch):
    table = federation.folder.table("leakage")
    table["chance_psnr"] = table["psnr"].min() - 30
    original = RunFolder.table
    monkeypatch.setattr(
        RunFolder, "table", lambda run, name: table if name == "leakage" else original(run, name)
    )
    axes = timeline_figure(federation.folder).axes[2]
    assert axes.get_ylim()[0] < table["chance_psnr"].min()


def test_grades_have_marks_of_their_own(federation, monkeypatch):
    table = federation.folder.table("leakage")
    grades = ["recognisable", "inconclusive"]
    table["verdict"] = [grades[place % 2] for place in range(len(table))]
    table["skipped"] = ["too many images"] + [""] * (len(table) - 1)
    original = RunFolder.table
    monkeypatch.setattr(
        RunFolder, "table", lambda run, name: table if name == "leakage" else original(run, name)
    )
    figure = timeline_figure(federation.folder)
    words = said(figure)
    assert "recognisable" in words
    assert "(1 not attacked)" in words.replace("\n", " ")
    fills = {line.get_fillstyle() for line in figure.axes[2].lines}
    assert {"left", "full"} <= fills
