"""Registration, against images that scikit-image moved."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.transform import SimilarityTransform, warp
from torch import Tensor
from torch.nn import functional

from fedlab.metrics import registration
from fedlab.metrics.images import PSNR_CAP, psnr
from fedlab.metrics.registration import MAX_SHIFT, register, registered_psnr

SIDE = 32
CORNERS = [(10, 20), (65, 75), (40, 60), (55, 110)]


@pytest.fixture(scope="module")
def scene(photo: Tensor) -> np.ndarray:
    """A photograph at a quarter of its size: much detail in 32 pixels."""
    return functional.avg_pool2d(photo, 4).permute(1, 2, 0).double().numpy()


@pytest.fixture(scope="module")
def big_digits(digits: Tensor) -> Tensor:
    large = functional.interpolate(digits[:6].double(), size=(24, 24), mode="bicubic")
    return functional.pad(large.clamp(0, 1), (4, 4, 4, 4))


def cut(
    scene: np.ndarray,
    *,
    height: int = SIDE,
    width: int = SIDE,
    turn: float = 0.0,
    zoom: float = 1.0,
    shift: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Pieces of a scene, each as a camera would take it that is turned, nearer and off."""
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    pieces = []
    for row, column in CORNERS:
        there = SimilarityTransform(translation=-centre)
        there += SimilarityTransform(translation=(-shift[1], -shift[0]))
        there += SimilarityTransform(rotation=-turn, scale=1 / zoom)
        there += SimilarityTransform(translation=centre + np.array([column, row]))
        pieces.append(warp(scene, there, output_shape=(height, width), order=3))
    return torch.tensor(np.stack(pieces)).permute(0, 3, 1, 2)


def by_hand(truth: Tensor, guess: Tensor, defined: Tensor) -> list[float]:
    scores = []
    for x, y, where in zip(truth, guess, defined, strict=True):
        error = (x - y).square()[where.expand_as(x)].mean()
        scores.append(min(PSNR_CAP, -10 * math.log10(float(error) + 1e-30)))
    return scores


@pytest.mark.parametrize(("down", "across"), [(0, 0), (3, -4), (-4, 1), (0, 4)])
def test_a_whole_pixel_shift_is_undone_exactly(
    photo: Tensor, big_digits: Tensor, down: int, across: int
) -> None:
    truth = torch.stack([photo[:, 50:82, c : c + 48] for c in range(100, 500, 80)])
    guess = torch.stack(
        [photo[:, 50 - down : 82 - down, c - across : c + 48 - across] for c in range(100, 500, 80)]
    )
    for x, y in ((truth, guess), (big_digits, big_digits.roll((down, across), (2, 3)))):
        assert registered_psnr(x, y).tolist() == [PSNR_CAP] * len(x)
        found = register(x, y)
        expected = torch.tensor([down, across]).double().expand(len(x), 2)
        torch.testing.assert_close(found.shift, expected, atol=1e-3, rtol=0)
        inside = (x.shape[2] - abs(down)) * (x.shape[3] - abs(across))
        assert found.defined.flatten(1).sum(1).tolist() == [inside] * len(x)


@pytest.mark.parametrize(
    ("turn", "zoom", "shift"),
    [
        (5, 1.0, (0.0, 0.0)),
        (-12, 1.0, (1.5, -2.0)),
        (0, 1.12, (0.0, 0.0)),
        (0, 0.9, (2.5, 2.5)),
        (8, 1.05, (-0.5, 3.3)),
        (-14, 0.9, (2.0, -2.0)),
    ],
)
@pytest.mark.parametrize(("height", "width"), [(SIDE, SIDE), (28, 44)])
def test_a_similarity_is_found(
    scene: np.ndarray,
    height: int,
    width: int,
    turn: float,
    zoom: float,
    shift: tuple[float, float],
) -> None:
    size = {"height": height, "width": width}
    truth = cut(scene, **size)
    guess = cut(scene, **size, turn=math.radians(turn), zoom=zoom, shift=shift)
    scores = registered_psnr(truth, guess)
    assert psnr(truth, guess).max() < 26
    assert scores.min() > 26
    assert scores.mean() > 30
    found = register(truth, guess)
    assert found.turn.rad2deg().tolist() == pytest.approx([turn] * 4, abs=0.4)
    assert found.zoom.tolist() == pytest.approx([zoom] * 4, rel=0.01)
    torch.testing.assert_close(
        found.shift, torch.tensor(shift).double().expand(4, 2), atol=0.2, rtol=0
    )
    expected = by_hand(truth, found.images, found.defined)
    assert scores.tolist() == pytest.approx(expected, abs=1e-6)


def test_unrelated_images_and_noise_gain_little(scene: np.ndarray, big_digits: Tensor) -> None:
    tiles = torch.tensor(scene).unfold(0, SIDE, SIDE).unfold(1, SIDE, SIDE).flatten(0, 1)
    noise = torch.rand(tiles.shape, generator=torch.Generator().manual_seed(0)).double()
    for truth, guess in ((tiles, tiles.roll(7, 0)), (tiles, noise), (big_digits, 1 - big_digits)):
        gain = registered_psnr(truth, guess) - psnr(truth, guess)
        assert gain.min() >= 0
        assert gain.mean() < 2
        assert gain.max() < 6


def test_it_is_never_below_psnr_and_the_same_alone(scene: np.ndarray) -> None:
    generator = torch.Generator().manual_seed(1)
    truth = cut(scene)
    for scale in (0.0, 0.01, 0.3, 3.0):
        guess = truth + scale * torch.randn(truth.shape, generator=generator)
        both = registered_psnr(truth, guess)
        assert (both >= psnr(truth, guess)).all()
        assert torch.equal(both, registered_psnr(truth, guess))
        torch.testing.assert_close(
            both[2:3], registered_psnr(truth[2:3], guess[2:3]), atol=0.05, rtol=0
        )


def test_a_registration_that_fails_does_not_count(
    scene: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = cut(scene)
    guess = truth + 0.1
    good = register(truth, guess)
    bad = replace(good, images=1 - truth)
    monkeypatch.setattr(registration, "register", lambda truth, guess: bad)
    assert torch.equal(registered_psnr(truth, guess), psnr(truth, guess))


def test_flat_and_tiny_images_and_nan(digits: Tensor) -> None:
    flat = torch.full((2, 1, 28, 28), 0.5)
    assert registered_psnr(flat, flat + 0.1).tolist() == pytest.approx([20.0, 20.0])
    assert (registered_psnr(digits[:5], digits[:5].roll(1, 3)) > 40).all()
    assert registered_psnr(flat[:, :, :1, :1], flat[:, :, :1, :1] + 0.1).isfinite().all()
    assert registered_psnr(flat[:0], flat[:0]).shape == (0,)
    guess = digits[:2].clone()
    guess[0, 0, 3, 3] = torch.nan
    assert registered_psnr(digits[:2], guess).isnan().tolist() == [True, False]
    with pytest.raises(ValueError, match="cannot be compared"):
        registered_psnr(digits[:2], digits[:3])


def test_a_shift_beyond_the_bound_is_not_undone(big_digits: Tensor) -> None:
    far = int(2 * MAX_SHIFT * SIDE)
    guess = big_digits.roll(far, 2)
    assert registered_psnr(big_digits, guess).max() < 25
    assert (register(big_digits, guess).shift.abs() <= MAX_SHIFT * SIDE + 1e-3).all()
