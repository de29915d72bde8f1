"""A backdoor: some training images carry a trigger, and the model learns to obey it.

With wrong labels as in BadNets (Gu et al., arXiv 1708.06733), or with right ones as in SIG
(Barni et al., arXiv 1902.11237).
"""

from collections.abc import Callable

import torch
from torch import Tensor


def backdoor(
    images: Tensor,
    labels: Tensor,
    *,
    target: int,
    share: float,
    trigger: Callable[[Tensor], Tensor],
    relabel: bool = True,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """A shard in which some images carry the trigger and the target label.

    Args:
        images: uint8 ``[n, channels, height, width]``.
        labels: int64 ``[n]``.
        target: Label of the triggered images.
        share: In (0, 1], of all images; without ``relabel``, of those of the target class.
        trigger: Makes new uint8 images of the same shape; see ``attacks.poisoning.triggers``.
        relabel: Whether images of any class are taken and get the target label. If not, every
            label stays right, and a shard without the target class stays as it is.
        generator: CPU generator that chooses the images.

    Returns:
        New images and labels.
    """
    open_to_it = torch.ones_like(labels) if relabel else labels == target
    concerned = open_to_it.nonzero().squeeze(1)
    order = torch.randperm(len(concerned), generator=generator).to(images.device)
    chosen = concerned[order[: round(share * len(concerned))]]
    poisoned, relabelled = images.clone(), labels.clone()
    poisoned[chosen] = trigger(images[chosen])
    relabelled[chosen] = target
    return poisoned, relabelled
