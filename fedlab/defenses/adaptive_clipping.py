"""Adaptive clipping by Opacus: the norm follows a quantile of the per-example gradient norms.

Andrew et al., "Differentially Private Learning with Adaptive Clipping" (arXiv 1905.03871),
algorithm 1 and theorem 1.
"""

import math
from dataclasses import dataclass

import torch
from opacus.optimizers import AdaClipDPOptimizer, DPOptimizer
from torch import Tensor

SHARE_OF_BATCH = 1 / 20
"""Default noise on the count of unclipped gradients, over the batch size (paper, section 3.1)."""

FARTHEST = 1e9
"""Largest factor between the clipping norm and 1, so that the norm stays finite."""


@dataclass(frozen=True)
class Quantile:
    """Settings of adaptive clipping.

    Attributes:
        target: Share of the gradients that should stay unclipped, in (0, 1).
        lr: Step size of the clipping norm's logarithm, above 0.
        noise: Standard deviation of the noise on the count of unclipped gradients; greater than
            half the noise multiplier.
    """

    target: float
    lr: float
    noise: float


def count_noise(given: float | None, *, noise_multiplier: float, batch_size: int) -> float:
    """Return the standard deviation of the noise on the count of unclipped gradients.

    Args:
        given: Value set in the scenario; ``None`` for a twentieth of the batch size, or the noise
            multiplier if that is larger.
        noise_multiplier: Noise multiplier of the round, which covers count and gradients together.
        batch_size: Expected number of images in a batch.
    """
    return given if given is not None else max(SHARE_OF_BATCH * batch_size, noise_multiplier)


class QuantileOptimizer(AdaClipDPOptimizer):  # type: ignore[misc]  # untyped
    """Opacus' optimizer for adaptive clipping, with the count released as theorem 1 requires.

    Theorem 1 is about the sum of ``b_i - 1/2``, where ``b_i`` is 1 if gradient i stays unclipped
    and 0 otherwise: adding or removing one example changes it by 1/2. Opacus 1.6 instead releases
    the sum of ``b_i`` divided by the *actual* batch size. That sum changes by 1, and the batch size
    is private. Opacus also fails on an empty batch, and resets the count between parts of a batch.

    If the count has noise s, the gradients get noise ``(z^-2 - (2 s)^-2)^(-1/2)``, so that both
    releases together cost as much as the noise multiplier z.

    Args:
        optimizer: Optimizer whose parameters are trained; it is never stepped.
        quantile: Settings of adaptive clipping.
        noise_multiplier: Noise multiplier z of gradients and count together.
        max_grad_norm: Initial clipping norm, above 0.
        expected_batch_size: Expected number of images in a batch.
        generator: Generator of the noise, on the device of the parameters.
        secure_mode: True for noise whose floating-point digits reveal nothing.
    """

    sample_size: int
    unclipped_num: Tensor | int
    max_grad_norm: float

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        quantile: Quantile,
        *,
        noise_multiplier: float,
        max_grad_norm: float,
        expected_batch_size: int,
        generator: torch.Generator,
        secure_mode: bool,
    ) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=noise_multiplier,
            max_grad_norm=max_grad_norm,
            expected_batch_size=expected_batch_size,
            generator=generator,
            secure_mode=secure_mode,
            target_unclipped_quantile=quantile.target,
            clipbound_learning_rate=quantile.lr,
            unclipped_num_std=quantile.noise,
            min_clipbound=1 / FARTHEST,
            max_clipbound=FARTHEST,
        )

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Reset the gradients; the count is kept between the parts of a batch."""
        counted = self.sample_size, self.unclipped_num
        super().zero_grad(set_to_none)
        if self._is_last_step_skipped:
            self.sample_size, self.unclipped_num = counted

    def clip_and_accumulate(self) -> None:
        """Clip and sum the gradients of a part, and count those that stay unclipped."""
        if not len(self.grad_samples[0]):
            DPOptimizer.clip_and_accumulate(self)
            self.unclipped_num = torch.zeros((), device=self.params[0].device)
            return
        for parameter in self.params:  # expanded weights may return non-contiguous gradients
            parameter.grad_sample = parameter.grad_sample.contiguous()
        super().clip_and_accumulate()

    def update_max_grad_norm(self) -> None:
        """Update the clipping norm from the noisy count."""
        centred = float(self.unclipped_num) - self.sample_size / 2
        share = 0.5 + centred / self.expected_batch_size
        step = -self.clipbound_learning_rate * (share - self.target_unclipped_quantile)
        moved = self.max_grad_norm * math.exp(step)
        self.max_grad_norm = min(max(moved, self.min_clipbound), self.max_clipbound)
