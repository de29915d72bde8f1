"""The picture of a run shows the best, the median and the worst image of each client and round."""

import math
from dataclasses import replace

import pytest
import torch

from fedlab.evaluation.leaks import Leak, load_leaks, save_leaks
from fedlab.report.figures.leaks import leak_figure, picture_of
from fedlab.report.tables.naming import spelled
from fedlab.results.rows import LeakageRow
from tests.report.legible import assert_legible, pixels_of, said


def leak(client, scores, *, round=1, level=None, known=False):
    """A leak of images with these aligned PSNRs; image i has the grey level (i + 1) / 20."""
    rows = tuple(
        LeakageRow(
            round=round,
            client=client,
            role="leaking",
            defenses="none",
            preset="fast",
            image=image,
            target="original",
            psnr=score - 1,
            aligned_psnr=score,
            ssim=0.5,
            chance_psnr=12.0,
            known_labels=known,
            setting="realistic",
            verdict="leaks" if score > 15 else "not shown",
        )
        for image, score in enumerate(scores)
    )
    levels = torch.arange(1, len(scores) + 1).view(-1, 1, 1, 1) / 20
    originals = levels.expand(-1, 1, 8, 8).contiguous()
    rebuilt = originals if level is None else torch.full_like(originals, level)
    return Leak(rows, originals, None, rebuilt)


@pytest.fixture
def drawn(tmp_path):
    """Function that draws leaks from a file of each round."""

    def draw(*rounds):
        for number, leaks in enumerate(rounds):
            save_leaks(tmp_path / f"{number}.npz", leaks)
        return picture_of([tmp_path / f"{n}.npz" for n in range(len(rounds))], name="x")

    return draw


def test_best_median_and_worst_are_drawn_and_named(drawn):
    figure = drawn([leak(0, [9.0, 8.0, 30.0, 12.0, 7.0, 20.0, 11.0])])
    levels = [float(pixels.mean()) for pixels in pixels_of(figure)]
    assert levels == pytest.approx([0.15, 0.35, 0.25] * 2)
    words = " ".join(said(figure).split())
    for name, score in (("best", "30.0 dB · leaks"), ("median", "11.0 dB"), ("worst", "7.0 dB")):
        assert f"{name} of 7: client 0" in words
        assert score in words
    assert "best, the median and the worst by PSNR" in figure.alt
    assert_legible(figure)


def test_an_image_without_reconstruction_is_the_worst(drawn):
    words = " ".join(said(drawn([leak(0, [math.nan, 8.0, 30.0, 9.0])])).split())
    assert "worst of 4" in words
    assert "no image" in words


def test_each_image_is_under_its_best_attack(drawn):
    attacks = [leak(0, [30.0, 8.0], level=0.5), leak(0, [9.0, 12.0], level=0.7, known=True)]
    figure = drawn(attacks)
    levels = [float(pixels.mean()) for pixels in pixels_of(figure)]
    assert levels == pytest.approx([0.05, 0.1, 0.5, 0.7])
    assert "median of" not in said(figure)


def test_all_attacks_on_a_single_image_are_drawn(drawn):
    figure = drawn([leak(0, [9.0]), leak(0, [30.0], known=True)])
    assert len(pixels_of(figure)) == 4
    assert "best" not in said(figure) + figure.alt


def test_every_client_of_a_round_is_drawn(drawn):
    figure = drawn([leak(client, [9.0, 30.0, 20.0, 7.0]) for client in range(5)])
    words = " ".join(said(figure).split())
    for client in range(5):
        assert words.count(f"client {client}, label") == 3
    assert len(figure.axes) == 3  # two clients side by side
    assert_legible(figure)


def test_rounds_have_their_own_best(drawn):
    figure = drawn(*([leak(0, [9.0, 30.0, 20.0, 7.0], round=n)] for n in (1, 2)))
    assert said(figure).count("best of 4") == 2


def test_rounds_that_are_left_out_are_named(drawn):
    figure = drawn(*([leak(0, [9.0], round=number)] for number in range(18)))
    assert "Left out: 10 of 18 attacked rounds (" in figure.alt
    headings = [word for word in said(figure).splitlines() if word.startswith("round ")]
    assert len(headings) == 8
    missing = set(range(18)) - {int(words.split()[1]) for words in headings}
    assert f"({spelled(missing)})" in figure.alt


def test_a_single_leak_shows_its_first_images(tmp_path):
    save_leaks(tmp_path / "x.npz", [leak(0, [9.0, 8.0, 30.0, 12.0])])
    (read,) = load_leaks(tmp_path / "x.npz")
    assert len(pixels_of(leak_figure(read))) == 8


def test_an_image_that_a_read_out_missed_is_not_shown_as_another(drawn):
    found = leak(0, [30.0, 9.0, 12.0])
    rebuilt = found.originals[[0, 0, 2]] + 0.01  # a copy is left over for the second image
    for preset, levels in (("trap-weights", [0.06, 0.16, 0.5]), ("fast", [0.06, 0.16, 0.06])):
        rows = tuple(replace(row, preset=preset) for row in found.rows)
        figure = drawn([replace(found, rows=rows, rebuilt=rebuilt)])
        shown = [float(pixels.mean()) for pixels in pixels_of(figure)]
        assert shown[3:] == pytest.approx(levels)  # best, median and worst
        assert ("not caught" in said(figure)) == (preset == "trap-weights")
        assert_legible(figure)


def test_a_long_run_is_no_taller_than_it_is_wide(drawn):
    scores = [9.0, 30.0, 20.0]
    figure = drawn(*([leak(client, scores, round=n) for client in range(4)] for n in range(20)))
    width, height = figure.get_size_inches()
    assert height < 1.3 * width
    assert "Drawn: 12 of 16 rows of images" in figure.alt
    assert_legible(figure)


def test_frames_are_explained(drawn):
    assert "A frame has the colour of the defenses" in said(drawn([leak(0, [9.0])]))
