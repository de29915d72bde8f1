"""The outline score against what it must and must not see, and its chance."""

import math

import pytest
import torch
from torch import Tensor

from fedlab.metrics.chance import trivial_guesses
from fedlab.metrics.further import further_values
from fedlab.metrics.images import psnr
from fedlab.metrics.metric import described
from fedlab.metrics.metric import outline as metric
from fedlab.metrics.outline import outline


def disc(side: int, radius: float) -> Tensor:
    """A bright disc on a dark ramp, ``[1, 1, side, side]``."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    inside = (y - side / 2).square() + (x - side / 2).square() < radius**2
    return (0.2 + 0.1 * x / side + 0.6 * inside)[None, None]


def noise(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("side", [28, 48])
def test_an_outline_at_low_psnr_scores_high(side):
    truth = disc(side, side / 3)
    blurred = torch.nn.functional.avg_pool2d(truth, 5, 1, 2, count_include_pad=False)
    weak = 0.45 + 0.2 * (blurred - blurred.mean()) + 0.02 * noise(truth.shape)
    assert float(psnr(truth, weak)) < 13
    assert float(outline(truth, weak)) > 0.5
    assert abs(float(outline(truth, noise(truth.shape)))) < 0.2


def test_a_copy_scores_one_and_another_shape_less():
    truth = torch.cat([disc(28, 9), disc(28, 9)])
    found = outline(truth, torch.cat([truth[:1], truth[:1].roll(9, 3)]))
    assert float(found[0]) == 1
    assert float(found[1]) < 0.6


def test_what_is_missing_or_flat_has_no_outline():
    truth = torch.cat([disc(28, 9), torch.full((1, 1, 28, 28), 0.5)])
    assert outline(truth, torch.stack([truth[0] * math.nan, truth[0]])).isnan().all()
    assert float(outline(truth[:1], truth[1:])) == 0
    with pytest.raises(ValueError, match="cannot be compared"):
        outline(truth, truth[:1])


def test_colour_photographs_are_cut_first(photo):
    truth = photo[None, :, 100:164, 300:364]
    assert float(outline(truth, truth)) == 1
    noisy = truth + 0.1 * (noise(truth.shape) - 0.5)
    assert 0.5 < float(outline(truth, noisy)) < 1
    assert float(outline(truth, noise(truth.shape))) < 0.2


def test_chance_is_the_best_guess_without_an_update():
    truth = disc(28, 9)
    others = torch.cat([disc(28, 4), disc(28, 8)])
    guesses = trivial_guesses(truth[0], others, others.mean(0), seed=0)
    assert torch.equal(guesses[0], others[1])
    assert torch.equal(guesses[1], others.mean(0))
    assert len(trivial_guesses(truth[0], others[:0], others.mean(0), seed=0)) == 2
    found = further_values([metric], truth, others[:1], [guesses])
    assert list(found) == ["outline", "chance_outline"]
    best = outline(truth.expand(3, -1, -1, -1), guesses).max()
    assert float(found["chance_outline"]) == pytest.approx(float(best))
    assert described("chance_outline", ("outline",)).header == "outline (ARI) by chance"


def test_without_public_images_chance_is_unknown():
    truth = disc(28, 9)
    assert further_values([metric], truth, truth, [])["chance_outline"].isnan().all()
