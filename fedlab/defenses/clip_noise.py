"""Clip-noise: clipped updates with Gaussian noise, for differential privacy of a whole client.

McMahan et al., "Learning Differentially Private Recurrent Language Models" (arXiv 1710.06963),
except that each client draws the noise, since the server is not trusted. Several clients of a
secure sum can share the noise, as in Kairouz, Liu and Steinke, "The Distributed Discrete Gaussian
Mechanism for Federated Learning with Secure Aggregation" (ICML 2021, arXiv 2102.06387); their
rounding to integers is left out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from fedlab.core.lazy import torch
from fedlab.core.settings import Count
from fedlab.defenses.base import Defense, NoiseSource
from fedlab.privacy.accounts import CLIENT, Account
from fedlab.privacy.release import LARGEST

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Generator, Tensor

    from fedlab.defenses.pipeline import ClientContext, Pipeline, Update
    from fedlab.defenses.workload import Workload
    from fedlab.privacy.release import History, PrivacyRelease


class ClipNoise(Defense):
    """Clips the whole update and adds Gaussian noise, for differential privacy of the client.

    Only the update is protected. The number of examples, which is sent with it, is public.
    """

    clipping_norm: float = Field(default=1.0, gt=0, le=LARGEST)
    """Largest L2 norm of the update, above 0; longer updates are shortened to it."""
    noise_multiplier: float = Field(default=1.0, ge=0, le=LARGEST)
    """Standard deviation of the noise in units of the clipping norm, at least 0."""
    noise_shared_by: Count = Field(default=1, ge=1)
    """Smallest number m of clients whose noise, together, has ``noise_multiplier``. Each client
    adds noise of 1 / sqrt(m) of that deviation to its update, and the server forms the sum only if
    at least m clients in it do. It needs ``secure-aggregation``, which hides single updates; the
    epsilon holds against the server, unless it knows the noise of other clients."""
    budget: float | None = Field(default=None, gt=0)
    """Largest epsilon at ``privacy.delta`` of a client's rounds under the defense; the client
    abstains from a round that would exceed it. Without it, there is no limit."""

    colour: ClassVar[str] = "#56B4E9"
    strengths: ClassVar[tuple[str, ...]] = ("noise_multiplier", "clipping_norm")
    account: ClassVar[Account] = CLIENT
    keeps_guarantees: ClassVar[bool] = True
    changes_update: ClassVar[bool] = True
    leaves_training: ClassVar[bool] = True

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """Clip the update and add noise after its earlier changes."""
        deviation = 0.0 if context.noiseless else self._deviation

        def release(update: Update) -> Update:
            clipped_update = clipped(update, self.clipping_norm)
            return noised(clipped_update, deviation=deviation, generator=context.noise)

        return pipeline.releasing(release).charged(self._cost(context.round, context.participation))

    @property
    def _deviation(self) -> float:
        """Standard deviation of the client's own noise."""
        return self.noise_multiplier * self.clipping_norm / math.sqrt(self.noise_shared_by)

    def _cost(self, round: int, participation: int) -> PrivacyRelease:
        return self.entry(
            round,
            participation,
            clipping_norm=self.clipping_norm,
            noise_multiplier=self.noise_multiplier,
            sample_rate=1.0,  # the server knows which clients take part
            steps=1,
            shared_by=self.noise_shared_by if self.noise_shared_by > 1 else None,
        )

    def expected_release(
        self,
        work: Workload,
        *,
        round: int,
        participation: int,
        images: int,
        values: int,
        history: History = (),
    ) -> PrivacyRelease:
        """Return the cost of a round, which does not depend on the client's images."""
        return self._cost(round, participation)

    @property
    def noise_source(self) -> NoiseSource:
        """Always ``seeded``: the run's seed determines the noise."""
        return "seeded"

    @property
    def states_noise(self) -> bool:
        """Always true."""
        return True

    @property
    def fewest_summed(self) -> int:
        """The setting ``noise_shared_by``."""
        return self.noise_shared_by

    @property
    def privacy_budget(self) -> float | None:
        """The setting ``budget``."""
        return self.budget

    def facts(self, history: History) -> dict[str, Any]:
        """Return the clipping norm and the standard deviation of the noise on each entry."""
        return {
            "update_clipping_norm": self.clipping_norm,
            "update_noise": self._deviation,
        }

    def conflict_before(self, later: Defense) -> str | None:
        """Refuse a later selection by the images, and any change of noise that clients share."""
        if later.changes_update and self.noise_shared_by > 1:
            return (
                f"{self.name} before {later.name}: the noise that clients share covers their sum, "
                f"and {later.name} changes each update before it is summed; list {later.name} first"
            )
        if later.selects_by_images:
            return (
                f"{self.name} before {later.name}: {later.name} chooses what to send by looking at "
                "the images, so it must not come after the noise that covers them; list "
                f"{later.name} first"
            )
        return None


def clipped(update: Mapping[str, Tensor], norm: float) -> dict[str, Tensor]:
    """Clip an update to an L2 norm, all tensors taken as one vector.

    The result is u min(1, C / ||u||). An update that is not finite becomes zero: a failed training
    depends on the images as well, and no noise would cover it.

    Args:
        update: Tensors by parameter name.
        norm: Largest L2 norm C, above 0.

    Example:
        >>> clipped({"a": torch.tensor([3.0, 4.0])}, 1.0)
        {'a': tensor([0.6000, 0.8000])}
    """
    # The norm is computed in float64, since the guarantee depends on it.
    parts = [torch.linalg.vector_norm(t, dtype=torch.float64) for t in update.values()]
    length = torch.linalg.vector_norm(torch.stack(parts))
    if not length.isfinite():
        return {name: torch.zeros_like(tensor) for name, tensor in update.items()}
    factor = (norm / length).clamp(max=1.0)
    return {name: tensor * factor for name, tensor in update.items()}


def noised(
    update: Mapping[str, Tensor], *, deviation: float, generator: Generator
) -> dict[str, Tensor]:
    """Add independent Gaussian noise to every entry of an update.

    Args:
        update: Tensors by parameter name.
        deviation: Standard deviation of the noise, at least 0; 0 adds none.
        generator: Generator of the noise, on the tensors' device.
    """
    if not deviation:
        return dict(update)
    return {
        name: tensor
        + deviation
        * torch.randn(tensor.shape, generator=generator, device=tensor.device, dtype=tensor.dtype)
        for name, tensor in update.items()
    }
