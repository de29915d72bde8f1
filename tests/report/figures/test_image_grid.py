import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedlab.evaluation.leaks import load_leaks, save_leaks
from fedlab.report.figures.colours import defense_colour
from fedlab.report.figures.image_grid import wall_figure
from fedlab.results.folder import RunFolder
from tests.federations import finished, small
from tests.report.legible import assert_legible, edges_of, pixels_of, said

LEAKING = {
    "roles": [{"role": "leaking", "clients": "1,2", "batch_size": 2}],
    "reconstructions": [{"clients": "1,2", "rounds": "2-", "iterations": 2}],
}


@pytest.fixture(scope="module")
def runs():
    open_run = finished(small(rounds=3, **LEAKING))
    private = finished(small(rounds=3, defenses=[{"name": "dp-sgd", "rounds": "3"}], **LEAKING))
    quiet = finished(small(rounds=3))
    # Held by their federations, or their folders would be gone.
    return {"none": open_run, "dp-sgd:noise_multiplier=1": private, "quiet": quiet}


def folders(runs):
    return {name: federation.folder for name, federation in runs.items()}


def leak_of(folder, round, client):
    (leak,) = [x for x in load_leaks(folder.leaks(round)) if x.rows[0].client == client]
    return leak


def test_true_beside_rebuilt_rounds_down_runs_across(runs):
    figure = wall_figure(folders(runs), client=2, image=1)
    expected = []
    for round in (2, 3):
        for name in list(runs)[:2]:
            leak = leak_of(runs[name].folder, round, 2)
            expected += [leak.originals[1, 0].numpy(), leak.rebuilt[1, 0].clamp(0, 1).numpy()]
            row = [row for row in leak.rows if row.target == "original"][1]
            assert f"{row.graded_psnr:.1f} dB · {row.verdict}" in said(figure)
            assert f"chance {row.chance_psnr:.0f}" in said(figure)
    for drawn, image in zip(pixels_of(figure), expected, strict=True):
        np.testing.assert_allclose(drawn, image, atol=1e-6)
    edges = edges_of(figure)[1::2]
    assert edges == [
        defense_colour(d).lower() for d in ("none", "none", "none", "dp-sgd")
    ]  # by what was on in the round
    assert said(figure).count("not attacked") == 2
    assert_legible(figure)
    assert "client 2, image 1" in figure.alt
    assert f" to {row.chance_psnr:.1f} dB, leaks in" in figure.alt
    assert sum(words.startswith("chance ") for words in said(figure).splitlines()) == 4
    assert "quiet: nothing rebuilt" in figure.alt


def test_the_first_attacked_client_is_the_default(runs):
    assert "client 1, image 0" in wall_figure(folders(runs)).alt


def test_rounds_without_an_attack_are_named(runs):
    figure = wall_figure(folders(runs))
    assert "No attack on this client in round 1." in said(figure)
    assert "Left out" not in said(figure)


def test_of_a_single_run_each_cell_names_its_defense(runs):
    run = runs["dp-sgd:noise_multiplier=1"].folder
    figure = wall_figure({"as scheduled": run})
    words = said(figure).splitlines()
    assert words.index("as scheduled: open") < words.index("as scheduled: dp-sgd")
    assert_legible(figure)
    both = wall_figure(folders(runs))
    assert "open" not in said(both)


@pytest.fixture
def edited(runs, tmp_path):
    """A run whose leaks a test makes up."""
    run = RunFolder.create(tmp_path / "run", runs["none"].scenario)

    def write(round, *leaks):
        named = [
            replace(leak, rows=tuple(replace(row, round=round) for row in leak.rows))
            for leak in leaks
        ]
        save_leaks(run.leaks(round), named)
        return run

    return write


def scored(leak, psnr, level):
    rows = tuple(replace(row, psnr=psnr, aligned_psnr=psnr) for row in leak.rows)
    return replace(leak, rows=rows, rebuilt=torch.full_like(leak.rebuilt, level))


@pytest.mark.parametrize(
    ("scores", "best"),
    [((5.0, 9.0), 1), ((9.0, 5.0), 0), ((math.nan, 5.0), 1), ((5.0, math.nan), 0)],
)
def test_of_several_attacks_the_best_is_shown(runs, edited, scores, best):
    leak = leak_of(runs["none"].folder, 2, 1)
    levels = (0.25, 0.75)
    run = edited(1, *(scored(leak, s, level) for s, level in zip(scores, levels, strict=True)))
    figure = wall_figure({"x": run})
    _, rebuilt = pixels_of(figure)
    assert rebuilt.mean() == pytest.approx(levels[best])
    assert "Of several attacks" in said(figure).replace("\n", " ")


def test_a_cell_in_which_nothing_was_rebuilt_says_so(runs, edited):
    run = edited(1, scored(leak_of(runs["none"].folder, 2, 1), math.nan, math.nan))
    figure = wall_figure({"x": run})
    assert len(pixels_of(figure)) == 1  # the true one
    assert "nothing rebuilt" in said(figure)
    assert "Of several attacks" not in said(figure)
    assert_legible(figure)


def test_of_many_rounds_six_are_drawn(runs, edited):
    leak = leak_of(runs["none"].folder, 2, 1)
    for round in range(1, 41):
        run = edited(round, leak)
    figure = wall_figure({"a-defense-with:a_long_setting=0.123456789+another": run})
    rounds = [w for w in said(figure).splitlines() if w.startswith("round ")]
    assert rounds == [f"round {r}" for r in (1, 9, 17, 24, 32, 40)]
    missing = "Left out: 34 of 40 attacked rounds (2-8,10-16,18-23,25-31,33-39)"
    assert missing in figure.alt
    assert missing in " ".join(said(figure).split())
    assert_legible(figure)
    named = said(wall_figure({"x": run}, rounds=[7, 3])).splitlines()
    assert [w for w in named if w.startswith("round ")] == ["round 7", "round 3"]


def test_many_runs_go_below_each_other(runs):
    folder = runs["none"].folder
    many = {f"dp-sgd:noise_multiplier={k}:clipping_norm=0.5": folder for k in range(13)}
    figure = wall_figure(many)
    assert len(pixels_of(figure)) == 13 * 2 * 2
    assert figure.get_figwidth() < 14
    assert_legible(figure)


def test_what_cannot_be_drawn(runs):
    with pytest.raises(ValueError, match="attacked nobody"):
        wall_figure({"quiet": runs["quiet"].folder})
    with pytest.raises(ValueError, match="did not attack client 0"):
        wall_figure(folders(runs), client=0)
    with pytest.raises(ValueError, match="in rounds"):
        wall_figure(folders(runs), client=1, rounds=[1])
