"""DP-InstaHide at a client: each image becomes the mean of k, and noise is added.

Borgnia et al., "DP-InstaHide: Provably Defusing Poisoning and Backdoor Attacks with
Differentially Private Data Augmentations" (arXiv 2103.02079).
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from fedlab.defenses.pipeline import Batch, Circumstances, Pipeline, Shard
from fedlab.defenses.settings import DPInstaHide
from fedlab.privacy import instahide
from fedlab.privacy.spending import Spending


class MixAndNoise:
    """DP-InstaHide as a defense of one round; mixes anew in every epoch."""

    def __init__(self, settings: DPInstaHide) -> None:
        self.settings = settings

    def wrap(self, pipeline: Pipeline, around: Circumstances) -> Pipeline:
        """Put the mixing after whatever the pipeline does to a batch already.

        Raises:
            ValueError: If the client holds fewer than k images.
        """
        n = len(around.shard)
        if n < self.settings.k:
            raise ValueError(
                f"dp-instahide mixes k = {self.settings.k} images, but the client holds {n}"
            )
        partners = around.stream("partners")
        noise = around.stream("mixing noise")

        def transform(batch: Batch) -> Batch:
            mixed = mix(
                pipeline.transform(batch), around.shard, k=self.settings.k, generator=partners
            )
            noisy = add_noise(
                mixed.pixels, self.settings.noise, scale=self.settings.scale, generator=noise
            )
            return replace(mixed, pixels=noisy)

        return replace(pipeline, transform=transform).charged(
            Spending(
                round=around.round,
                participation=around.participation,
                mechanism="dp-instahide",
                steps=pipeline.records,
                epsilon=self._epsilon(n, pipeline.records, around),
            )
        )

    def _epsilon(self, n: int, records: int, around: Circumstances) -> float | None:
        """The formal epsilon of the round for the sampler above: own record plus partners."""
        if self.settings.noise != "laplace":
            return None
        return instahide.epsilon_own_plus_partners(
            n=n,
            k=self.settings.k,
            sigma=self.settings.scale,
            diameter=float(around.shard.images[0].numel()),
            records=records,
            own_records=min(records, around.epochs),
        )


def mix(batch: Batch, shard: Shard, *, k: int, generator: torch.Generator) -> Batch:
    """Replace every image by the equal mean of itself and k - 1 others of the shard.

    Args:
        batch: The images to start from.
        shard: Where the partners come from; at least k images.
        k: Images in a mixture. The partners of one image are distinct, and never itself.
        generator: CPU generator of the partners.

    Returns:
        The mixed batch, its labels float32 ``[b, classes]``.
    """
    n, device = len(shard), shard.images.device
    labels = functional.one_hot(batch.labels, shard.num_classes).float()
    if k == 1 or not len(batch.members):
        return replace(batch, labels=labels)
    # A random order of the n - 1 others for each image: its first k - 1 are the partners.
    others = torch.rand(len(batch.members), n - 1, generator=generator).argsort(1)[:, : k - 1]
    members = batch.members.cpu().unsqueeze(1)
    chosen = (others + (others >= members)).to(device)  # skip the image itself
    pixels = batch.pixels + shard.images[chosen].float().div(255).sum(1)
    labels = labels + functional.one_hot(shard.labels[chosen], shard.num_classes).sum(1)
    sources = torch.cat([batch.members.unsqueeze(1), chosen], dim=1)
    return replace(batch, sources=sources, pixels=pixels / k, labels=labels / k)


def add_noise(pixels: Tensor, kind: str, *, scale: float, generator: torch.Generator) -> Tensor:
    """Independent noise on every pixel, then clipping to [0, 1], which is post-processing.

    The noise itself is not clamped: bounded noise is no Laplace mechanism.

    Args:
        pixels: float32 in [0, 1].
        kind: ``laplace`` or ``gaussian``.
        scale: Laplace scale or standard deviation, in units of the pixel range.
        generator: CPU generator.
    """
    if kind == "laplace":
        # The difference of two exponentials is Laplace, and a float32 exponential never
        # rounds to infinity as the logarithm of a uniform zero would.
        noise = torch.empty(2, *pixels.shape).exponential_(generator=generator)
        drawn = noise[0] - noise[1]
    else:
        drawn = torch.randn(pixels.shape, generator=generator)
    return (pixels + scale * drawn.to(pixels.device)).clamp(0, 1)
