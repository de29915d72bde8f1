import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor

from fedlab.evaluation import images as module
from fedlab.evaluation.images import PSNR_CAP, identified, match, nearest, psnr, ssim


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return torch.tensor(load_digits().images).float().unsqueeze(1) / 16


@pytest.fixture(scope="module")
def photo() -> Tensor:
    picture = torch.tensor(load_sample_images().images[0])
    return picture.permute(2, 0, 1).float() / 255


def patches(photo: Tensor, side: int, channels: int) -> Tensor:
    tiles = photo[:channels].unfold(1, side, side).unfold(2, side, side)
    return tiles.permute(1, 2, 0, 3, 4).flatten(0, 1)[60:66].contiguous()


def noisy(images: Tensor, scale: float) -> Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + scale * noise).clamp(0, 1)


@pytest.mark.parametrize("scale", [1e-4, 0.01, 0.1, 1.0])
@pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3), (11, 1), (12, 3)])
def test_scores_equal_scikit_image(photo: Tensor, side: int, channels: int, scale: float) -> None:
    truth = patches(photo, side, channels)
    guess = noisy(truth, scale)
    pairs = zip(truth.double().numpy(), guess.double().numpy(), strict=True)
    for index, (x, y) in enumerate(pairs):
        expected = structural_similarity(
            x,
            y,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
        )
        assert ssim(truth, guess)[index].item() == pytest.approx(expected, abs=1e-9)
        decibels = peak_signal_noise_ratio(x, y, data_range=1.0)
        assert psnr(truth, guess)[index].item() == pytest.approx(decibels, abs=1e-9)


def test_ssim_of_digits_uses_the_largest_window_that_fits(digits: Tensor) -> None:
    truth, guess = digits[:4], noisy(digits[:4], 0.2)

    def mean(image: np.ndarray) -> np.ndarray:
        return gaussian_filter(image, 1.5, radius=3)[3:-3, 3:-3]

    for index in range(4):
        x, y = truth[index, 0].double().numpy(), guess[index, 0].double().numpy()
        mx, my = mean(x), mean(y)
        vx, vy, vxy = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
        top = (2 * mx * my + 1e-4) * (2 * vxy + 9e-4)
        expected = (top / ((mx * mx + my * my + 1e-4) * (vx + vy + 9e-4))).mean()
        assert ssim(truth, guess)[index].item() == pytest.approx(expected, abs=1e-9)


def test_a_copy_scores_the_cap_and_one(digits: Tensor) -> None:
    assert psnr(digits[:3], digits[:3]).tolist() == [PSNR_CAP] * 3
    assert ssim(digits[:3], digits[:3]).tolist() == pytest.approx([1.0] * 3)


def test_nan_is_not_hidden(digits: Tensor) -> None:
    assert psnr(digits[:1], digits[:1] * torch.nan).isnan().all()


def test_guesses_are_clamped(digits: Tensor) -> None:
    far = torch.where(digits[:2] > 0.5, 9.0, -9.0)
    assert torch.equal(psnr(digits[:2], far), psnr(digits[:2], far.clamp(0, 1)))


def test_different_shapes_are_refused(digits: Tensor) -> None:
    for score in (psnr, ssim):
        with pytest.raises(ValueError, match="cannot be compared"):
            score(digits[:2], digits[:3])
    with pytest.raises(ValueError, match="cannot be compared"):
        match(digits[:2], digits[:2, :, :4])


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(12)))
def test_match_undoes_any_order(order: list[int]) -> None:
    truth = torch.rand(12, 1, 5, 5, generator=torch.Generator().manual_seed(1))
    guess = noisy(truth, 0.05)[order]
    true_order, guess_order = match(truth, guess)
    assert true_order.tolist() == list(range(12))
    assert [order[place] for place in guess_order] == list(range(12))


@pytest.mark.parametrize(("true", "guessed"), [(6, 4), (4, 6), (0, 3), (3, 0)])
def test_match_of_unequal_numbers(digits: Tensor, true: int, guessed: int) -> None:
    true_order, guess_order = match(digits[:true], noisy(digits[:guessed], 0.05))
    assert true_order.tolist() == list(range(min(true, guessed)))
    assert guess_order.tolist() == list(range(min(true, guessed)))


def test_match_is_best_in_total_and_uses_no_image_twice() -> None:
    # 0.5 is nearest to both guesses; one to one, the pairs must cross over.
    truth = torch.tensor([0.5, 0.0]).view(2, 1, 1, 1)
    guess = torch.tensor([0.4, 0.6]).view(2, 1, 1, 1)
    assert match(truth, guess)[1].tolist() == [1, 0]


def test_match_survives_nan(digits: Tensor) -> None:
    guess = digits[[1, 0, 2]].clone()
    guess[2] = torch.nan
    assert match(digits[:3], guess)[1].tolist() == [1, 0, 2]


def test_identified_needs_the_true_image_to_be_nearest(digits: Tensor) -> None:
    index = torch.tensor([5, 6, 7])
    guess = torch.stack([digits[5], digits[100], digits[7] * torch.nan])
    assert identified(index, guess, digits).tolist() == [True, False, False]
    raw = (digits * 255).round().to(torch.uint8)
    assert identified(index, noisy(digits[5:8], 0.02), raw).all()


def test_identified_among_candidates_and_duplicates(digits: Tensor) -> None:
    pool = torch.cat([digits[:10], digits[3:4]])
    guess = digits[8:9]
    only = torch.zeros(1, 11, dtype=torch.bool)
    only[0, [3, 10]] = True
    assert not identified(torch.tensor([3]), guess, pool).item()
    assert identified(torch.tensor([3]), guess, pool, candidates=only).item()
    assert identified(torch.tensor([3]), digits[3:4], pool).item()
    with pytest.raises(ValueError, match=r"candidates must be \[1, 11\]"):
        identified(torch.tensor([3]), guess, pool, candidates=only.T)


def test_nearest_is_the_same_in_small_chunks(
    digits: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates = torch.rand(20, len(digits), generator=torch.Generator().manual_seed(2)) < 0.3
    whole = nearest(digits[:20], digits, candidates=candidates)
    monkeypatch.setattr(module, "_CHUNK_PIXELS", 64 * 7)
    pieces = nearest(digits[:20], digits, candidates=candidates)
    assert torch.equal(whole[0], pieces[0])
    assert torch.equal(whole[1], pieces[1])
    every = (digits[:20].unsqueeze(1) - digits).flatten(2).norm(dim=2)
    assert torch.equal(whole[1], every.masked_fill(~candidates, torch.inf).argmin(1))
