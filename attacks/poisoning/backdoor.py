"""A backdoor: a trigger on some training images, which the model learns to react to.

Labels are wrong as in BadNets (Gu et al., arXiv 1708.06733), or right as in SIG (Barni et al.,
arXiv 1902.11237).
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
    """Put the trigger on some images and give them the target label.

    Args:
        images: Images, uint8 ``[n, channels, height, width]``.
        labels: Class of each image, int64 ``[n]``.
        target: Label of the images with the trigger.
        share: Share of the images that get the trigger, in (0, 1]; without ``relabel`` of the
            images of the target class.
        trigger: Returns copies of uint8 images with the trigger; see
            ``attacks.poisoning.triggers``.
        relabel: Choose images of all classes and give them the target label. Otherwise all labels
            stay right, and nothing changes without images of the target class.
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
