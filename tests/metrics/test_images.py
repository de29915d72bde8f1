import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor

from fedlab.metrics.images import (
    PSNR_CAP,
    match,
    psnr,
)
from tests.metrics.patches import noisy, patches


@pytest.mark.parametrize("scale", [1e-4, 0.01, 0.1, 1.0])
@pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3), (11, 1), (12, 3)])
def test_psnr_equals_scikit_image(photo: Tensor, side: int, channels: int, scale: float) -> None:
    truth = patches(photo, side, channels)
    guess = noisy(truth, scale)
    pairs = zip(truth.double().numpy(), guess.double().numpy(), strict=True)
    expected = [peak_signal_noise_ratio(x, y, data_range=1.0) for x, y in pairs]
    assert psnr(truth, guess).tolist() == pytest.approx(expected, abs=1e-9)


def test_a_copy_scores_the_cap(digits: Tensor) -> None:
    assert psnr(digits[:3], digits[:3]).tolist() == [PSNR_CAP] * 3


def test_nan_is_not_hidden(digits: Tensor) -> None:
    assert psnr(digits[:1], digits[:1] * torch.nan).isnan().all()


def test_guesses_are_clamped(digits: Tensor) -> None:
    far = torch.where(digits[:2] > 0.5, 9.0, -9.0)
    assert torch.equal(psnr(digits[:2], far), psnr(digits[:2], far.clamp(0, 1)))


def test_different_shapes_are_refused(digits: Tensor) -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        psnr(digits[:2], digits[:3])
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


def test_match_is_optimal_and_one_to_one() -> None:
    # 0.5 is nearest to both guesses; one to one, the pairs must cross over.
    truth = torch.tensor([0.5, 0.0]).view(2, 1, 1, 1)
    guess = torch.tensor([0.4, 0.6]).view(2, 1, 1, 1)
    assert match(truth, guess)[1].tolist() == [1, 0]


def test_match_survives_nan(digits: Tensor) -> None:
    guess = digits[[1, 0, 2]].clone()
    guess[2] = torch.nan
    assert match(digits[:3], guess)[1].tolist() == [1, 0, 2]
