"""Clipped and noised updates: differential privacy of a whole client against the server.

McMahan et al., "Learning Differentially Private Recurrent Language Models" (arXiv 1710.06963),
with the noise drawn by each client, since the server is not trusted.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from fedlab.defenses.pipeline import ClientContext, Pipeline, Update
from fedlab.defenses.settings import ClipNoise
from fedlab.privacy.release import PrivacyRelease


class ClipAndNoiseUpdate:
    """Clip-noise as a defense of one round.

    What it protects is the update alone. The number of examples that travels with it is public.
    """

    def __init__(self, settings: ClipNoise) -> None:
        self.settings = settings

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Put clipping and noise after whatever is done to the update already."""
        norm, multiplier = self.settings.clipping_norm, self.settings.noise_multiplier
        deviation = 0.0 if context.noiseless else multiplier * norm

        def release(update: Update) -> Update:
            return noised(clipped(update, norm), deviation=deviation, generator=context.noise)

        return pipeline.releasing(release).charged(
            PrivacyRelease(
                round=context.round,
                participation=context.participation,
                mechanism="clip-noise",
                clipping_norm=norm,
                noise_multiplier=multiplier,
                sample_rate=1.0,  # the server knows who takes part
                steps=1,
            )
        )


def clipped(update: Mapping[str, Tensor], norm: float) -> dict[str, Tensor]:
    """An update shortened to an L2 norm, all tensors taken as one vector.

    u min(1, C / ||u||). One that is not finite has no direction to keep and becomes zero: that
    training failed depends on the images as well, and no noise would cover it.

    Args:
        update: By parameter name.
        norm: The largest that is kept, above 0.

    Example:
        >>> clipped({"a": torch.tensor([3.0, 4.0])}, 1.0)
        {'a': tensor([0.6000, 0.8000])}
    """
    # In float64: the norm bounds what the noise has to cover.
    parts = [torch.linalg.vector_norm(t, dtype=torch.float64) for t in update.values()]
    length = torch.linalg.vector_norm(torch.stack(parts))
    if not length.isfinite():
        return {name: torch.zeros_like(tensor) for name, tensor in update.items()}
    factor = (norm / length).clamp(max=1.0)
    return {name: tensor * factor for name, tensor in update.items()}


def noised(
    update: Mapping[str, Tensor], *, deviation: float, generator: torch.Generator
) -> dict[str, Tensor]:
    """An update with independent Gaussian noise on every entry.

    Args:
        update: By parameter name.
        deviation: Standard deviation of the noise; 0 adds none.
        generator: Of the noise, on the tensors' device.
    """
    if not deviation:
        return dict(update)
    return {
        name: tensor
        + deviation
        * torch.randn(tensor.shape, generator=generator, device=tensor.device, dtype=tensor.dtype)
        for name, tensor in update.items()
    }
