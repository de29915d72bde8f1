import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity
from torch import Tensor

from fedlab.metrics.similarity import ssim
from tests.metrics.patches import noisy, patches


@pytest.mark.parametrize("scale", [1e-4, 0.01, 0.1, 1.0])
@pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3), (11, 1), (12, 3)])
def test_ssim_equals_scikit_image(photo: Tensor, side: int, channels: int, scale: float) -> None:
    truth = patches(photo, side, channels)
    guess = noisy(truth, scale)
    pairs = zip(truth.double().numpy(), guess.double().numpy(), strict=True)
    expected = [
        structural_similarity(
            x,
            y,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
        )
        for x, y in pairs
    ]
    assert ssim(truth, guess).tolist() == pytest.approx(expected, abs=1e-9)


def test_ssim_uses_the_largest_window_that_fits(digits: Tensor) -> None:
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


def test_copy_scores_one_and_other_shape_is_refused(digits: Tensor) -> None:
    assert ssim(digits[:3], digits[:3]).tolist() == pytest.approx([1.0] * 3)
    with pytest.raises(ValueError, match="cannot be compared"):
        ssim(digits[:2], digits[:3])
