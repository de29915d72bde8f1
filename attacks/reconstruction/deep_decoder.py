"""An untrained generator as a prior: images are what a small network makes of fixed noise.

Such a network reproduces shapes long before it reproduces noise (Ulyanov, Vedaldi and Lempitsky,
"Deep Image Prior", CVPR 2018, arXiv 1711.10925). The one here is the deep decoder, whose layers mix
channels and double the resolution (Heckel and Hand, "Deep Decoder: Concise Image Representations
from Untrained Non-convolutional Networks", ICLR 2019, arXiv 1810.03982). Each image has a decoder
of its own, since a shared one ties images of a batch to each other.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from attacks.reconstruction.presets import AttackSettings
from attacks.reconstruction.problem import Problem

CHANNELS = 64
"""Channels of each hidden layer."""

FITTED = 200
"""Steps of Adam by which a decoder is fitted to the first images."""

COARSEST = 4
"""Least side of the coarsest layer in pixels, of images with at least as many."""


class DeepDecoder:
    """Weights of one deep decoder for each image, instead of its pixels.

    Args:
        first: float ``[n, channels, height, width]``, normalised images to begin with, as far as
            ``FITTED`` steps of Adam reproduce them.
        problem: The problem, of which the pixel range is used.
        attack: Settings of the attack, of which the step size is used.
        generator: CPU generator of the fixed noise and the weights before the fit.

    Attributes:
        leaves: For each hidden layer its weights ``[n, CHANNELS, CHANNELS]``, and scale and shift
            of its normalised channels ``[n, CHANNELS, 1, 1]``; then weights ``[n, channels,
            CHANNELS]`` and bias ``[n, channels, 1, 1]`` of the output.
    """

    def __init__(
        self, first: Tensor, problem: Problem, attack: AttackSettings, generator: torch.Generator
    ) -> None:
        count, channels, *size = first.shape
        doublings = max(0, int(math.log2(min(size) / COARSEST)))
        sizes = [[-(-side // 2**left) for side in size] for left in range(doublings, -1, -1)]
        self._spread = [
            [_doubling(*sides).to(first.device) for sides in zip(coarse, fine, strict=True)]
            for coarse, fine in pairwise(sizes)
        ]
        self._low, self._high = problem.pixel_range
        noise = torch.rand(count, CHANNELS, *sizes[0], generator=generator) - 0.5
        self._noise = noise.to(first.device)
        leaves = []
        for _ in range(doublings + 1):
            leaves += [
                _weights(count, CHANNELS, generator),
                torch.ones(count, CHANNELS, 1, 1),
                torch.zeros(count, CHANNELS, 1, 1),
            ]
        leaves += [_weights(count, channels, generator), torch.zeros(count, channels, 1, 1)]
        self.leaves = [leaf.to(first.device).requires_grad_() for leaf in leaves]
        adam = torch.optim.Adam(self.leaves, lr=attack.lr)
        for _ in range(FITTED):
            adam.zero_grad()
            loss = (self(self.leaves) - first).square().mean()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()

    def __call__(self, leaves: Sequence[Tensor]) -> Tensor:
        """Images, normalised, within the pixel range."""
        *hidden, weights, bias = leaves
        values = self._noise
        for layer in range(len(hidden) // 3):
            mixing, scale, shift = hidden[3 * layer : 3 * layer + 3]
            values = _mixed(mixing, values)
            if layer < len(self._spread):
                rows, columns = self._spread[layer]
                values = rows @ values @ columns.T
            values = functional.instance_norm(values.relu()) * scale + shift
        share = torch.sigmoid(_mixed(weights, values) + bias)
        return self._low + (self._high - self._low) * share

    def confine(self) -> None:
        """Do nothing: all weights are valid."""


def _weights(count: int, channels: int, generator: torch.Generator) -> Tensor:
    """First weights, from PyTorch's distribution for linear layers."""
    values = torch.rand(count, channels, CHANNELS, generator=generator)
    return (2 * values - 1) / math.sqrt(CHANNELS)


def _mixed(weights: Tensor, values: Tensor) -> Tensor:
    """A convolution with kernels of one pixel, whose weights differ from image to image."""
    return torch.bmm(weights, values.flatten(2)).reshape(*weights.shape[:2], *values.shape[2:])


def _doubling(coarse: int, fine: int) -> Tensor:
    """Matrix ``[fine, coarse]`` of linear interpolation.

    Unlike PyTorch's function its gradient has the same bits in every run on a GPU.
    """
    unit = torch.eye(coarse)[None]
    spread = functional.interpolate(unit, size=fine, mode="linear", align_corners=False)
    return spread[0].T.contiguous()
