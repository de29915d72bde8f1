"""Tests of the normal distribution of images against its definition."""

import torch

from attacks.malicious_server.gaussian_prior import GaussianPrior


def images(count, seed=0):
    """Random images whose pixels depend on each other."""
    draws = torch.Generator().manual_seed(seed)
    mixing = torch.randn((12, 12), generator=torch.Generator().manual_seed(9)) / 3
    return (torch.randn((count, 12), generator=draws) @ mixing + 0.5).view(count, 1, 3, 4)


def test_denoised_is_the_conditional_mean():
    prior, noisy = GaussianPrior.of(images(14)), images(3, seed=1)
    variances = torch.tensor([0.01, 0.3, 2.0])
    along = prior.basis.T @ (prior.variances[:, None] * prior.basis)
    beside = prior.rest * (torch.eye(12) - prior.basis.T @ prior.basis)
    covariance = along + beside
    for given, variance, found in zip(
        noisy, variances, prior.denoised(noisy, variances), strict=True
    ):
        gain = covariance @ torch.linalg.inv(covariance + variance * torch.eye(12))
        expected = prior.mean + gain @ (given.flatten() - prior.mean)
        torch.testing.assert_close(found.flatten(), expected, atol=1e-4, rtol=1e-4)


def test_denoising_removes_noise_of_unseen_images():
    prior, clean = GaussianPrior.of(images(200)), images(100, seed=1)
    noise = 0.5 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))
    after = prior.denoised(clean + noise, torch.full((100,), 0.25)) - clean
    assert after.square().mean() < 0.8 * noise.square().mean()


def test_without_noise_images_stay():
    prior, clean = GaussianPrior.of(images(200)), images(3, seed=1)
    torch.testing.assert_close(prior.denoised(clean, torch.full((3,), 1e-14)), clean)


def test_too_few_images_leave_standardised_pixels():
    prior, noisy = GaussianPrior.of(images(3)), images(2, seed=1)
    torch.testing.assert_close(prior.denoised(noisy, torch.ones(2)), noisy / 2)
