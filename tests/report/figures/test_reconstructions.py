import math
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.image import imread
from sklearn.datasets import load_digits
from torch import Tensor

from fedlab.defenses import DEFENSES
from fedlab.report.figures.colours import defense_colour
from fedlab.report.figures.reconstructions import (
    ReconstructionRow,
    reconstruction_figure,
    save,
)
from tests.report.legible import assert_legible, edges_of, images_of, pixels_of, said

TITLE = "What did the server see of client 0?"


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return torch.tensor(load_digits().images).float().unsqueeze(1) / 16


def row(images: Tensor, *, mixed: bool = False, defense: str = "none") -> ReconstructionRow:
    n = len(images)
    return ReconstructionRow(
        label="round 11 · client 12 · dp-instahide · labels inferred · diagnostic",
        truth=images,
        guess=images,
        psnr=[100.0, 12.34][:n] + [55.5] * (n - 2),
        ssim=[-0.99] * n,
        verdict=["leaks", "not shown"][:n] + ["not shown"] * (n - 2),
        defense=defense,
        mixed=images if mixed else None,
        chance=[14.2] * n,
    )


@pytest.mark.parametrize(("rows", "count"), [(1, 64), (40, 4), (20, 8)])
def test_long_runs_and_large_batches_can_be_read(digits: Tensor, rows: int, count: int) -> None:
    names = [f"client {place}, label inferred" for place in range(count)]
    parts = [replace(row(digits[:count]), names=names) for _ in range(rows)]
    assert_legible(reconstruction_figure(parts, title=TITLE))


@pytest.mark.parametrize("count", [1, 2, 5, 8])
@pytest.mark.parametrize("rows", [1, 3, 8])
def test_nothing_overlaps_or_leaves_the_page(digits: Tensor, rows: int, count: int) -> None:
    parts = [row(digits[: count if i != 1 else 1], mixed=i % 2 == 1) for i in range(rows)]
    assert_legible(reconstruction_figure(parts, title=TITLE))
    assert_legible(reconstruction_figure(parts, title=f"{TITLE} " * 5))


def test_colour_and_sizes_mix(digits: Tensor) -> None:
    colour = torch.rand(3, 3, 32, 48)
    figure = reconstruction_figure([row(digits[:2]), row(colour)], title=TITLE)
    assert_legible(figure)
    assert len(pixels_of(figure)) == 10


def test_pixels_arrive_unsmoothed(digits: Tensor, tmp_path: Path) -> None:
    figure = reconstruction_figure([row(digits[:1])], title=TITLE)
    save(figure, tmp_path / "seen.png", dpi=200)
    picture = torch.tensor(imread(tmp_path / "seen.png"))
    height, width = picture.shape[:2]
    (_, box), _ = images_of(figure)
    box = box.transformed(figure.transFigure.inverted())
    for i in range(8):
        for j in range(8):
            x = (box.x0 + box.width * (j + 0.5) / 8) * width
            y = (1 - box.y1 + box.height * (i + 0.5) / 8) * height
            seen = picture[int(y), int(x), 0].item()
            assert seen == pytest.approx(digits[0, 0, i, j].item(), abs=0.01)
    assert [path.name for path in tmp_path.iterdir()] == ["seen.png"]


def test_large_batches_show_the_first_and_say_so(digits: Tensor) -> None:
    figure = reconstruction_figure([row(digits[:32])], title=TITLE, columns=4)
    assert len(pixels_of(figure)) == 8
    assert "first 4 of 32 images" in said(figure)


def test_a_defense_keeps_its_colour(digits: Tensor) -> None:
    for defense in ("none", *DEFENSES.names, "my.module:Mine"):
        figure = reconstruction_figure([row(digits[:1], defense=defense)], title=TITLE)
        assert edges_of(figure)[1] == defense_colour(defense).lower()


def test_it_shows_itself_and_leaves_pyplot_alone(digits: Tensor) -> None:
    figure = reconstruction_figure([row(digits[:1])], title=TITLE)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert not plt.get_fignums()


def test_it_says_in_words_what_it_shows(digits: Tensor) -> None:
    parts = [row(digits[:2]), row(digits[:3])]
    assert reconstruction_figure(parts, title=TITLE).alt == (
        f"{TITLE} True images above rebuilt ones in 2 rows: 2 of 5 images leak, PSNR goes from "
        "12.3 dB to ≥ 100 dB."
    )
    lost = replace(row(digits[:1]), psnr=[math.nan], verdict=["not shown"])
    alt = reconstruction_figure([lost], title=TITLE).alt
    assert "0 of 1 images leak, nothing was rebuilt" in alt


def test_parts_that_do_not_fit(digits: Tensor) -> None:
    with pytest.raises(ValueError, match="at least one row"):
        reconstruction_figure([], title=TITLE)
    good = row(digits[:2])
    short = ReconstructionRow("x", good.truth, good.guess, [1.0], good.ssim, good.verdict)
    with pytest.raises(ValueError, match="as many scores"):
        reconstruction_figure([short], title=TITLE)
    other = ReconstructionRow("x", good.truth, digits[:3], good.psnr, good.ssim, good.verdict)
    with pytest.raises(ValueError, match="rebuilt images must be"):
        reconstruction_figure([other], title=TITLE)
