"""What the attacker of MetaPoison minimises: the target's loss a few training steps later.

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
"""Below this margin nothing more is to be gained; the value of the public code."""


def margin(logits: Tensor, intended: Tensor) -> Tensor:
    """How far the best other class is above the intended one: Carlini and Wagner, negative if won.

    Mean over targets of max_{j != y} z_j - z_y, cut below at ``FLOOR``.

    Args:
        logits: float ``[t, classes]``.
        intended: int64 ``[t]``, what the attacker wants to be said.

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
"""By name; of logits ``[t, classes]`` and the intended labels."""


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
        surrogate: Where the steps begin.
        poisons: float ``[p, channels, height, width]``, pixels in [0, 1]; part of each batch.
        poison_labels: int64 ``[p]``.
        clean: float ``[K, b, channels, height, width]``, the rest of the batch of each step.
        clean_labels: int64 ``[K, b]``.
        targets: float ``[t, channels, height, width]``, pixels in [0, 1].
        intended: int64 ``[t]``.
        lr: Learning rate of the steps.
        weight_decay: L2 penalty of the steps.
        loss: See ``LOSSES``.
        first_only: Whether the gradient reaches the poisons through the first step's batch only,
            as in the public code; later steps then see them as constants.
        every_step: Whether to take the mean of the losses after each of the K steps, as the
            public code does, or the loss after the last step alone, as the formula has it.

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
