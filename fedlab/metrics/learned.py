"""Features of images, learned from public ones.

A small network learns to tell every public image from all others under flips, shifts, zooms, noise
and changes of brightness, by the normalised cross-entropy of Chen et al., "A Simple Framework for
Contrastive Learning of Visual Representations" (arXiv 2002.05709), eq. 1.
"""

import hashlib
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedlab.core.modes import evaluation
from fedlab.core.seeds import derive, generator, seeded

_IMAGES, _BATCH, _STEPS, _WIDTH, _SIDE = 1024, 64, 60, 16, 16
_TEMPERATURE = 0.2
_CACHE: dict[tuple[str, int], nn.Module] = {}
_CACHED = 4


def learned_features(network: nn.Module, images: Tensor) -> Tensor:
    """Features of length 1, float32 ``[n, features]``, of images with pixels in [0, 1]."""
    with evaluation(network):
        found: Tensor = network(images.float().clamp(0, 1).nan_to_num())
    return found


def feature_network(images: Tensor, seed: int) -> nn.Module:
    """Train the network on public images; the same images and seed give the same weights.

    Args:
        images: float32 ``[m, channels, height, width]``, pixels in [0, 1]; at most 1,024 are used.
        seed: Root seed.

    Returns:
        The network, on the CPU. The last few are kept, because every run of a comparison asks for
        the same one.
    """
    images = images[:_IMAGES].float().cpu()
    key = hashlib.sha256(images.numpy().tobytes()).hexdigest(), seed
    if key not in _CACHE:
        while len(_CACHE) >= _CACHED:
            _CACHE.pop(next(iter(_CACHE)))
        _CACHE[key] = _trained(images, seed)
    return _CACHE[key]


class _Features(nn.Module):
    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, height, width = shape
        self.size = min(height, _SIDE), min(width, _SIDE)
        layers: list[nn.Module] = []
        wide, side = _WIDTH, min(self.size)
        while side > 2:
            layers += [nn.Conv2d(channels, wide, 3, 2, 1), nn.GroupNorm(4, wide), nn.ReLU()]
            channels, wide, side = wide, min(2 * wide, 32), -(-side // 2)
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(64))

    def forward(self, images: Tensor) -> Tensor:
        small = functional.adaptive_avg_pool2d(images, self.size)
        return functional.normalize(self.layers(small - 0.5), dim=1)


def _trained(images: Tensor, seed: int) -> nn.Module:
    draws = generator(seed, "feature network")
    with seeded(derive(seed, "feature weights"), images.device), torch.enable_grad():
        network = _Features(tuple(images.shape[1:]))
        network(images[:1])
        rule = torch.optim.Adam(network.parameters(), lr=3e-3)
        for _ in range(_STEPS):
            batch = images[torch.randperm(len(images), generator=draws)[:_BATCH]]
            found = torch.cat([network(_changed(batch, draws)) for _ in range(2)])
            alike = found @ found.T / _TEMPERATURE
            alike.fill_diagonal_(-math.inf)
            partner = torch.arange(len(found)).roll(len(batch))
            loss = functional.cross_entropy(alike, partner)
            rule.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            rule.step()
    return network.requires_grad_(False)


def _changed(images: Tensor, draws: torch.Generator) -> Tensor:
    """Each image mirrored at random, moved by up to an eighth, zoomed, brightened and noised."""
    count = len(images)
    flip = torch.rand(count, generator=draws).lt(0.5).float() * 2 - 1
    zoom, gain, light, noise = torch.rand(4, count, generator=draws)
    affine = torch.zeros(count, 2, 3)
    affine[:, 0, 0], affine[:, 1, 1] = flip * (0.9 + 0.2 * zoom), 0.9 + 0.2 * zoom
    affine[:, :, 2] = torch.rand(count, 2, generator=draws) / 2 - 0.25
    grid = functional.affine_grid(affine, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    moved = moved * (0.8 + 0.45 * gain).view(-1, 1, 1, 1) + (0.2 * light - 0.1).view(-1, 1, 1, 1)
    drawn = torch.randn(images.shape, generator=draws)
    noisy: Tensor = moved + 0.1 * noise.view(-1, 1, 1, 1) * drawn
    return noisy.clamp(0, 1)
