"""The loss of MetaPoison: the loss of the target after a few training steps.

Huang et al. 2020 (arXiv 2004.00225).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from attacks.gradients import unroll
from attacks.knowledge import LocalSGD
from attacks.poisoning.surrogate import Surrogate

Loss = Literal["carlini-wagner", "cross-entropy"]

FLOOR = -100.0
"""Smallest margin that counts; the value of the public code."""


def margin(logits: Tensor, intended: Tensor) -> Tensor:
    """Margin of the best other class over the intended one (Carlini and Wagner).

    Mean over targets of max_{j != y} z_j - z_y, at least ``FLOOR``; negative on success.

    Args:
        logits: float ``[t, classes]``.
        intended: Class that the model shall predict for each target, int64 ``[t]``.

    Returns:
        A scalar.

    Example:
        >>> float(margin(torch.tensor([[2.0, 0.5, -1.0]]), torch.tensor([1])))
        1.5
    """
    own = logits.gather(1, intended[:, None]).squeeze(1)
    others = logits.scatter(1, intended[:, None], -torch.inf).amax(1)
    return (others - own).clamp(min=FLOOR).mean()


LOSSES: dict[Loss, Callable[[Tensor, Tensor], Tensor]] = {
    "carlini-wagner": margin,
    "cross-entropy": functional.cross_entropy,
}
"""Losses by name, functions of logits ``[t, classes]`` and the intended labels."""


def meta_loss(
    surrogate: Surrogate,
    poisons: Tensor,
    poison_labels: Tensor,
    clean: Tensor,
    clean_labels: Tensor,
    targets: Tensor,
    intended: Tensor,
    *,
    lr: float,
    weight_decay: float = 0.0,
    loss: Loss = "carlini-wagner",
    first_only: bool = True,
    every_step: bool = True,
) -> Tensor:
    """Adversarial loss of the target after K steps of SGD on poisons and clean images.

    Args:
        surrogate: Network at which the steps start.
        poisons: Poisons in [0, 1], float ``[p, channels, height, width]``; part of each batch.
        poison_labels: Class of each poison, int64 ``[p]``.
        clean: Other images of the batch of each step, float ``[K, b, channels, height, width]``.
        clean_labels: Class of each of them, int64 ``[K, b]``.
        targets: Target images, float ``[t, channels, height, width]``, pixels in [0, 1].
        intended: Class that the model shall predict for each target, int64 ``[t]``.
        lr: Learning rate of the steps.
        weight_decay: L2 penalty of the steps.
        loss: Name of the loss on the targets, see ``LOSSES``.
        first_only: Differentiate by the poisons in the batch of the first step only, as the public
            code does; later steps treat them as constants.
        every_step: Return the mean of the losses after each of the K steps, as the public code
            does; otherwise the loss after the last step, as in the paper's formula.

    Returns:
        A scalar that can be differentiated by the poisons.
    """
    after: dict[str, Tensor] = dict(surrogate.parameters)
    losses: list[Tensor] = []
    for step in range(len(clean)):
        seen = poisons.detach() if step and first_only else poisons
        batch = torch.cat([seen, clean[step]])
        local = LocalSGD(lr=lr, weight_decay=weight_decay, batch_size=len(batch))
        after = unroll(
            surrogate.model,
            after,
            surrogate.buffers,
            surrogate.network_input(batch),
            torch.cat([poison_labels, clean_labels[step]]),
            local=local,
            create_graph=True,
        )
        if every_step or step == len(clean) - 1:
            said = replace(surrogate, parameters=after).logits(targets)
            losses.append(LOSSES[loss](said, intended))
    return torch.stack(losses).mean()
