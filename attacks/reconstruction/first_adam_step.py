"""The gradient behind a first step of Adam, as far as the rounding of the weights preserves it.

The first step of Adam and AdamW moves a weight by lr * g / (|g| + eps) (Kingma and Ba 2015,
algorithm 1 at t = 1). This is nearly a sign, but |g| = eps * r / (1 - r) with r = |move| / lr, so a
weight that is stored with an error of d * lr tells gradients up to about eps / d: for float32
weights near 0.05 and a learning rate of 1e-3, up to 3e-3.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from attacks.knowledge import LocalSGD

RELIABLE = 0.3
"""Share of eps / d up to which a gradient counts as known; its relative error is then 0.3 or less,
since the error of |g| is d g^2 / eps."""

RESOLVED = 0.5
"""Least share of entries with a known gradient for which the step is undone."""


def undo_first_step(
    sent: Mapping[str, Tensor], received: Mapping[str, Tensor], local: LocalSGD
) -> tuple[dict[str, Tensor], dict[str, Tensor]] | None:
    """Gradient, weight decay of Adam included, that a first step turned into the received weights.

    Args:
        sent: Weights before the step, by name.
        received: Weights after it, in the precision in which they were sent.
        local: Local training with Adam or AdamW.

    Returns:
        The gradient by name, clamped to plus and minus a limit for each entry; and the limits, up
        to which its entries are known. ``None`` if fewer than half of the entries that moved are.
    """
    gradient, limits = {}, {}
    known = moved = 0
    decay = local.lr * float(local.decay_factor(sent.values())) * (local.optimiser == "adamw")
    for name, before in sent.items():
        after = received[name]
        unit = torch.finfo(after.dtype).eps
        before, after = before.double(), after.double()
        move = (before * (1 - decay) - after) / local.lr
        # Half a unit in the last place of the weight, and one of the quotient in float32.
        error = unit / 2 * torch.maximum(before.abs(), after.abs()) / local.lr + unit
        limit = RELIABLE * local.eps / error
        size = move.abs().clamp(max=1)
        size = local.eps * size / (1 - size).clamp(min=1e-30)
        gradient[name] = (move.sign() * size.minimum(limit)).to(sent[name])
        limits[name] = limit.to(sent[name])
        moving = move.abs() > 0.5  # gradients above eps; smaller ones are known to be small
        known += int(((size < limit) & moving).sum())
        moved += int(moving.sum())
    return (gradient, limits) if known >= RESOLVED * moved else None


def clamped(gradient: Mapping[str, Tensor], limits: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The gradient with each entry between minus and plus its limit."""
    return {name: g.clamp(-limits[name], limits[name]) for name, g in gradient.items()}
