"""Un-mixing, the second step against DP-InstaHide: from mixtures of many rounds to the images.

Carlini et al., "Is Private Learning Possible with Instance Encoding?" (arXiv 2011.05315), on
mixtures that the server first rebuilt from gradients.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attacks.reconstruction import Reconstruction
from attacks.reconstruction.unmix import unmix
from fedlab.core.errors import BadInput
from fedlab.core.views import Viewable
from fedlab.data.images import ImageData
from fedlab.data.shard import Shard
from fedlab.metrics.images import match
from fedlab.metrics.public_pool import PublicPool
from fedlab.metrics.scores import score
from fedlab.metrics.verdict import LEAKS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class UnmixedShard(Viewable):
    """A client's images as un-mixed from many rounds, beside the true ones; always diagnostic.

    Attributes:
        client: Partition id of the client.
        rounds: Rounds of the mixtures.
        mixtures: Number of mixtures.
        originals: float32 ``[n, channels, height, width]`` in [0, 1], true images of the client.
        rebuilt: Un-mixed image for each true one.
        psnr: PSNR of each image in dB.
        ssim: Structural similarity of each image.
        chance: Chance PSNR of each image in dB.
        verdicts: Grade of each image by ``fedlab.metrics.verdict.grade``.
    """

    client: int
    rounds: tuple[int, ...]
    mixtures: int
    originals: Tensor = field(repr=False)
    rebuilt: Tensor = field(repr=False)
    psnr: tuple[float, ...]
    ssim: tuple[float, ...]
    chance: tuple[float, ...]
    verdicts: tuple[str, ...]

    def show(self) -> "Figure":
        """Draw the true images above the un-mixed ones; the same as ``picture``."""
        return self.picture()

    def __str__(self) -> str:
        """Number of leaking images, mixtures and median PSNR in one line."""
        leaking = sum(word == LEAKS for word in self.verdicts)
        return (
            f"client {self.client}: {leaking} of {len(self.verdicts)} images leak after un-mixing "
            f"{self.mixtures} mixtures, median {median(self.psnr):.1f} dB (diagnostic: how many "
            "images it holds was granted)"
        )


def unmix_reconstructions(
    reconstructions: Sequence[tuple[int, Reconstruction]],
    *,
    client: int,
    shard: Shard,
    data: ImageData,
    k: int,
    generator: torch.Generator,
    seed: int = 0,
) -> UnmixedShard:
    """Un-mix reconstructed mixtures and score the result.

    The attacker knows the number of the client's images, so the result is diagnostic.

    Args:
        reconstructions: Round and result of each attack on the client's mixed batches.
        client: Partition id of the client.
        shard: True images of the client, of which the attacker knows the number only.
        data: Data set with the public images of the chance baselines.
        k: Number of images in each mixture, which the server asked for.
        generator: CPU generator of the un-mixing.
        seed: Root seed, which chooses the pool of public images.

    Raises:
        BadInput: If there is no mixture, or k and the client's images leave nothing to find.
    """
    if not reconstructions:
        raise BadInput(f"no mixture of client {client} was rebuilt, so none can be un-mixed")
    mixed = torch.cat([found.images.cpu() for _, found in reconstructions])
    labels = [found.labels.cpu() for _, found in reconstructions]
    soft = torch.cat(labels) if all(each.is_floating_point() for each in labels) else None
    try:
        found = unmix(mixed, soft, count=len(shard), k=k, generator=generator)
    except ValueError as error:
        raise BadInput(str(error)) from error
    originals = data.pixels(shard.images).cpu()
    places, chosen = match(originals, found.images)
    originals, rebuilt = originals[places], found.images[chosen]
    scores = score(
        originals,
        rebuilt,
        pool=PublicPool(data.test_images.cpu(), data.test_labels.cpu(), seed),
        labels=shard.labels.cpu()[places],
        recovered=None,
    )
    return UnmixedShard(
        client=client,
        rounds=tuple(sorted({round for round, _ in reconstructions})),
        mixtures=len(mixed),
        originals=originals,
        rebuilt=rebuilt,
        psnr=tuple(each.psnr for each in scores),
        ssim=tuple(each.ssim for each in scores),
        chance=tuple(each.chance_psnr for each in scores),
        verdicts=tuple(each.verdict for each in scores),
    )
