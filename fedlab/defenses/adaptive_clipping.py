"""A clipping norm that follows a quantile of the gradients' own norms, by Opacus.

Andrew et al., "Differentially Private Learning with Adaptive Clipping" (arXiv 1905.03871),
algorithm 1 and theorem 1.
"""

import math
from dataclasses import dataclass

import torch
from opacus.optimizers import AdaClipDPOptimizer, DPOptimizer
from torch import Tensor

SHARE_OF_BATCH = 1 / 20
"""Noise on the count of unclipped gradients, in batches (section 3.1 of the paper)."""

FARTHEST = 1e9
"""The bound stays within this factor of 1; only there to keep it a finite number."""


@dataclass(frozen=True)
class Quantile:
    """How the bound moves.

    Attributes:
        target: Share of the gradients that should stay unclipped, in (0, 1).
        lr: Step of the bound's logarithm.
        noise: Standard deviation of the noise on the count of unclipped gradients; above half of
            the noise multiplier.
    """

    target: float
    lr: float
    noise: float


def count_noise(given: float | None, *, noise_multiplier: float, batch_size: int) -> float:
    """Standard deviation of the noise on the count of unclipped gradients.

    Args:
        given: By the scenario; the next best one unless given.
        noise_multiplier: Nominal one of the round, which the count must not use up alone.
        batch_size: Expected.
    """
    return given if given is not None else max(SHARE_OF_BATCH * batch_size, noise_multiplier)


class QuantileOptimizer(AdaClipDPOptimizer):  # type: ignore[misc]  # untyped
    """Opacus' optimizer, with the count centred and divided by what is no secret.

    Theorem 1 is about the sum of ``b_i - 1/2``, where ``b_i`` says whether gradient i stays
    unclipped: one example more or less changes it by 1/2. Opacus 1.6 releases the sum of ``b_i``
    over the *actual* batch size instead, which changes it by 1 and gives a secret away; it also
    fails on an empty batch, and forgets the count between the parts of one.

    With noise z on gradients and count together, the gradients get ``(z^-2 - (2 s)^-2)^(-1/2)``
    where the count gets s, so both releases are covered by z.
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
        """Forget the gradients, and the count unless the batch goes on."""
        counted = self.sample_size, self.unclipped_num
        super().zero_grad(set_to_none)
        if self._is_last_step_skipped:
            self.sample_size, self.unclipped_num = counted

    def clip_and_accumulate(self) -> None:
        """Clip and sum up the gradients of a part, and count those that needed no clipping."""
        if not len(self.grad_samples[0]):
            DPOptimizer.clip_and_accumulate(self)
            self.unclipped_num = torch.zeros((), device=self.params[0].device)
            return
        for parameter in self.params:  # those of expanded weights have strides of their own
            parameter.grad_sample = parameter.grad_sample.contiguous()
        super().clip_and_accumulate()

    def update_max_grad_norm(self) -> None:
        """Move the bound by what the noisy count says."""
        centred = float(self.unclipped_num) - self.sample_size / 2
        share = 0.5 + centred / self.expected_batch_size
        step = -self.clipbound_learning_rate * (share - self.target_unclipped_quantile)
        moved = self.max_grad_norm * math.exp(step)
        self.max_grad_norm = min(max(moved, self.min_clipbound), self.max_clipbound)
