import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio
from sklearn.metrics import roc_auc_score
from torch import Tensor

from fedlab.metrics import images as module
from fedlab.metrics.images import (
    PSNR_CAP,
    identification_auc,
    identified,
    match,
    nearest,
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


def test_identified_if_the_true_image_is_nearest(digits: Tensor) -> None:
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


def test_auc_is_the_area_under_the_roc_curve(digits: Tensor) -> None:
    index = torch.arange(12)
    guess = noisy(digits[:12], 1.5)
    candidates = torch.rand(12, 400, generator=torch.Generator().manual_seed(4)) < 0.5
    candidates[index, index] = True
    found = identification_auc(index, guess, digits[:400], candidates=candidates)
    assert 0.5 < found.mean() < 0.999
    assert candidates[index, index].all()
    distance = (guess.unsqueeze(1) - digits[:400]).flatten(2).norm(dim=2)
    for place in range(12):
        among = candidates[place]
        own = (torch.arange(400) == place)[among]
        expected = roc_auc_score(own.numpy(), -distance[place][among].numpy())
        assert found[place].item() == pytest.approx(expected, abs=1e-12)


def test_auc_of_ties_nan_and_pools_of_one(digits: Tensor) -> None:
    twice = torch.cat([digits[:5], digits[:1]])
    index = torch.tensor([0, 0])
    guess = torch.stack([digits[0], digits[0] * torch.nan])
    assert identification_auc(index, guess, twice).tolist() == [pytest.approx(4.5 / 5), 0]
    assert identification_auc(index[:1], guess[:1], digits[:1]).isnan().all()
    raw = (digits[:50] * 255).round().to(torch.uint8)
    assert identification_auc(torch.arange(9), noisy(digits[:9], 0.02), raw).eq(1).all()
    with pytest.raises(ValueError, match=r"candidates must be \[1, 5\]"):
        identification_auc(index[:1], guess[:1], digits[:5], candidates=torch.ones(1, 4) > 0)


def test_auc_is_the_same_in_small_chunks(digits: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    index, guess = torch.arange(20), noisy(digits[:20], 1.0)
    candidates = torch.rand(20, 300, generator=torch.Generator().manual_seed(5)) < 0.3
    whole = identification_auc(index, guess, digits[:300], candidates=candidates)
    monkeypatch.setattr(module, "_CHUNK_PIXELS", 64 * 7)
    assert torch.equal(whole, identification_auc(index, guess, digits[:300], candidates=candidates))


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
