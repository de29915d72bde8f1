import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from skimage.transform import downscale_local_mean
from torch import Tensor

from fedlab.metrics.multiscale import ms_ssim, scales
from fedlab.metrics.similarity import ssim

PAPER = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def reference(x: np.ndarray, y: np.ndarray, count: int) -> float:
    """Of one channel, with scikit-image; a huge K1 leaves contrast and structure alone."""
    score = 1.0
    for scale in range(count):
        value = structural_similarity(
            x,
            y,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
            K1=0.01 if scale == count - 1 else 1e8,
        )
        score *= max(value, 0) ** (PAPER[scale] / sum(PAPER[:count]))
        even = [(0, side % 2) for side in x.shape]
        x, y = (downscale_local_mean(np.pad(z, even, mode="symmetric"), (2, 2)) for z in (x, y))
    return score


@pytest.mark.parametrize("noise", [1e-3, 0.1, 0.5])
@pytest.mark.parametrize(
    ("height", "width", "count"),
    [(11, 20, 1), (28, 28, 2), (32, 32, 2), (43, 57, 3), (99, 120, 4), (170, 203, 5)],
)
def test_equals_scikit_image(
    photo: Tensor, height: int, width: int, count: int, noise: float
) -> None:
    truth = torch.stack([photo[:, 100 : 100 + height, c : c + width] for c in (50, 300)])
    guess = truth + noise * torch.randn(truth.shape, generator=torch.Generator().manual_seed(3))
    pairs = zip(truth.double().numpy(), guess.clamp(0, 1).double().numpy(), strict=True)
    expected = [
        np.mean([reference(*channel, count) for channel in zip(x, y, strict=True)])
        for x, y in pairs
    ]
    assert scales(height, width) == count
    assert ms_ssim(truth, guess).tolist() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(("side", "count"), [(21, 2), (20, 1), (161, 5), (160, 4), (5000, 5)])
def test_a_scale_counts_if_the_window_fits(side: int, count: int) -> None:
    assert scales(side, 9000) == scales(9000, side) == count


def test_at_one_scale_it_is_ssim(digits: Tensor) -> None:
    torch.testing.assert_close(
        ms_ssim(digits[:9], digits[:9] * 0.7), ssim(digits[:9], digits[:9] * 0.7)
    )


def test_negatives_score_zero_and_not_nan(photo: Tensor) -> None:
    truth = photo[None, :, 300:364, 300:364]
    assert ssim(truth, 1 - truth) < 0
    assert ms_ssim(truth, 1 - truth).tolist() == [0.0]
    assert ms_ssim(truth, truth * torch.nan).isnan().all()


def test_a_copy_scores_one_and_no_images_none(photo: Tensor) -> None:
    truth = photo[None, :, :200, :200]
    assert ms_ssim(truth, truth).item() == pytest.approx(1)
    assert ms_ssim(truth[:0], truth[:0]).shape == (0,)
    with pytest.raises(ValueError, match="cannot be compared"):
        ms_ssim(truth, truth[:, :1])
