"""Defenses that change how the gradient of a batch is computed."""

from typing import Literal, Self

from pydantic import Field, model_validator

from fedlab.core.schedule import ClientsText, RoundsText
from fedlab.core.settings import Settings


class DPSGD(Settings):
    """DP-SGD: per-example clipping and Gaussian noise (Abadi et al. 2016), by Opacus."""

    name: Literal["dp-sgd"] = "dp-sgd"
    rounds: RoundsText = "all"
    clients: ClientsText = "all"
    noise_multiplier: float = Field(default=1.0, ge=0)
    """Standard deviation of the noise in units of the clipping norm; 0 clips only."""
    target_epsilon: float | None = Field(default=None, gt=0)
    """Solve the noise multiplier, before the run starts, so that each client's scheduled protected
    rounds together cost so much at ``privacy.delta``; the run's own scenario has what was found in
    its place, in an entry for each group of clients."""
    budget: float | None = Field(default=None, gt=0)
    """Largest epsilon of a client's protected rounds: it declines a round that would pass it."""
    clipping_norm: float = Field(default=1.0, gt=0)
    """Largest L2 norm that one example's gradient keeps; where an adaptive bound starts."""
    clipping: Literal["flat", "per-layer", "adaptive"] = "flat"
    """One norm for the whole gradient, an equal part of it for each parameter, or a norm that
    follows a quantile of the gradients' own (arXiv 1905.03871)."""
    quantile: float = Field(default=0.5, gt=0, lt=1)
    """Of adaptive clipping: share of the gradients that should stay unclipped."""
    quantile_lr: float = Field(default=0.2, gt=0)
    """Of adaptive clipping: step of the bound, on a log scale."""
    quantile_noise: float | None = Field(default=None, gt=0)
    """Of adaptive clipping: standard deviation of the noise on the count of unclipped gradients; a
    twentieth of the batch unless given, and more where the noise multiplier needs it."""
    per_example: Literal["auto", "hooks", "ew", "functorch", "ghost"] = "auto"
    """How Opacus gets per-example gradients; ``ghost`` saves memory, with flat clipping."""
    memory: float | None = Field(default=None, gt=0)
    """MiB for per-example gradients: batches are split so that they fit."""
    secure_noise: bool = False
    """Seed the noise by the system's entropy, and draw it so that floating point does not leak."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.per_example == "ghost" and self.clipping != "flat":
            raise ValueError('per_example = "ghost" goes with clipping = "flat" only')
        if self.clipping == "adaptive" and self.quantile_noise is not None:
            least = self.noise_multiplier / 2
            if self.quantile_noise <= least:
                raise ValueError(
                    f"quantile_noise is {self.quantile_noise:g}, but with noise_multiplier = "
                    f"{self.noise_multiplier:g} it has to be above {least:g}: less on the count "
                    "alone would cost more than both together may"
                )
        return self


class Soteria(Settings):
    """Prunes the gradient of one linear layer by how much its input tells (arXiv 2012.06043)."""

    name: Literal["soteria"] = "soteria"
    rounds: RoundsText = "all"
    clients: ClientsText = "all"
    share: float = Field(default=0.6, gt=0, lt=1)
    """Of the layer's input features whose gradient is set to 0."""
