"""A normal distribution of images, by which the mean of those that noise leaves possible is known.

Wiener, "Extrapolation, Interpolation, and Smoothing of Stationary Time Series" (1949), with the
covariance of public images in place of that of a stationary process.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

LEAST = 1e-6
"""Smallest variance along a direction, in normalised units, so that exact images stay exact."""


@dataclass(frozen=True)
class GaussianPrior:
    """A normal distribution of images.

    Attributes:
        mean: Mean image, float ``[pixels]``.
        basis: Orthonormal principal directions, float ``[directions, pixels]``.
        variances: Variance along each of them, float ``[directions]``.
        rest: Variance along each other direction, a float scalar.
    """

    mean: Tensor = field(repr=False)
    basis: Tensor = field(repr=False)
    variances: Tensor = field(repr=False)
    rest: Tensor

    @classmethod
    def of(cls, images: Tensor) -> "GaussianPrior":
        """Fit the distribution: directions on every second image, variances on the others.

        Variances along directions are too large on the images that gave the directions, and 0 along
        all others.

        Args:
            images: Normalised public images, float ``[m, ...]``; with fewer than four, pixels are
                assumed to be independent and standardised.
        """
        flat = images.flatten(1)
        if len(flat) < 4:
            return cls(
                flat.new_zeros(flat.shape[1]),
                flat.new_zeros(0, flat.shape[1]),
                flat.new_zeros(0),
                flat.new_ones(()),
            )
        centre = flat[::2].mean(0)
        basis = torch.linalg.svd(flat[::2] - centre, full_matrices=False).Vh[:-1]
        others = flat[1::2] - centre
        along = (others @ basis.T).square().mean(0)
        beside = others.square().sum(1).mean() - along.sum()
        free = max(1, flat.shape[1] - len(basis))
        return cls(centre, basis, along.clamp(min=LEAST), (beside / free).clamp(min=LEAST))

    def denoised(self, images: Tensor, variances: Tensor) -> Tensor:
        """Mean of the images that are possible under independent noise on each pixel.

        Args:
            images: Noisy normalised images, float ``[n, ...]``.
            variances: Variance of the noise of each image, float ``[n]``.
        """
        noise = variances[:, None]
        offset = images.flatten(1) - self.mean
        beside = self.rest / (self.rest + noise)
        along = self.variances / (self.variances + noise) - beside
        return (self.mean + beside * offset + (offset @ self.basis.T * along) @ self.basis).view_as(
            images
        )
