"""Every prior against a plain loop, and its gradient against finite differences in float64."""

import numpy as np
import pytest
import torch

from attacks.reconstruction import AttackSettings
from attacks.reconstruction.priors import norm_prior, square_norm, total_variation


def images(channels=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, channels, 5, 4, generator=generator, dtype=dtype)


def test_total_variation_is_that_of_a_plain_loop():
    x = images().numpy()
    right = [abs(x[..., j + 1] - x[..., j]) for j in range(3)]
    down = [abs(x[..., i + 1, :] - x[..., i, :]) for i in range(4)]
    expected = np.mean(right) + np.mean(down)
    assert float(total_variation(images())) == pytest.approx(expected, rel=1e-6)
    assert float(total_variation(torch.full((1, 1, 4, 4), 0.3))) == 0


def test_isotropic_form_is_the_difference_length():
    x = images().numpy()
    lengths = np.hypot(x[..., :-1, 1:] - x[..., :-1, :-1], x[..., 1:, :-1] - x[..., :-1, :-1])
    found = float(total_variation(images(), isotropic=True))
    assert found == pytest.approx(lengths.mean(), rel=1e-4)


def test_opponents_add_colour_differences():
    x = images()
    pairs = torch.stack([x[:, 0] - x[:, 2], x[:, 1] - x[:, 0], x[:, 2] - x[:, 1]], dim=1)
    expected = (total_variation(x) + total_variation(pairs)) / 2
    assert float(total_variation(x, opponents=True)) == pytest.approx(float(expected), rel=1e-6)
    grey = images(channels=1)
    assert torch.equal(total_variation(grey, opponents=True), total_variation(grey))


def test_square_norm():
    assert float(square_norm(images())) == pytest.approx(float((images() ** 2).mean()))


@pytest.mark.parametrize(
    "prior",
    [
        total_variation,
        lambda x: total_variation(x, isotropic=True),
        lambda x: total_variation(x, opponents=True),
        square_norm,
    ],
)
def test_gradients(prior):
    exact = images(dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(prior, exact, eps=1e-7, atol=1e-6)
    rough = images(dtype=torch.float64).float().requires_grad_()
    (found,) = torch.autograd.grad(prior(rough), rough)
    (expected,) = torch.autograd.grad(prior(exact), exact)
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-5)


def test_further_priors_are_named_or_given():
    settings = AttackSettings(tv=0.0, priors=(("norm", 0.5), (norm_prior, 0.25)))
    assert settings.weighted_priors == ((norm_prior, 0.5), (norm_prior, 0.25))


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (4, 1, 5, 9)])
def test_total_variation_has_the_bits_of_autograd(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def plain(x):
        right, down = x[..., :, 1:] - x[..., :, :-1], x[..., 1:, :] - x[..., :-1, :]
        return right.abs().mean() + down.abs().mean()

    found = []
    for variation in (plain, total_variation):
        leaf = x.clone().requires_grad_()
        (leaf.sin().sum() + 0.37 * variation(leaf)).backward()
        found.append((variation(x), leaf.grad))
    (value, slope), (ours, our_slope) = found
    assert torch.equal(ours, value)
    assert torch.equal(our_slope, slope)
