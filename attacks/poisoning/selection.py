"""Which images of a training set become poisons."""

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from attacks.poisoning.crafting import pixels_of
from attacks.poisoning.surrogate import Surrogate

TOGETHER = 64
"""Images whose own gradients are in memory at a time."""


def choose(labels: Tensor, *, target_class: int, count: int, generator: torch.Generator) -> Tensor:
    """Random images of a class.

    Args:
        labels: int64 ``[n]``.
        target_class: The label that the poisons keep, and that the target is to get.
        count: How many.
        generator: CPU generator.

    Returns:
        Their places, int64 ``[count]``, on the device of the labels.

    Raises:
        ValueError: If there are not so many.
    """
    places = _of_class(labels, target_class, count)
    order = torch.randperm(len(places), generator=generator)[:count]
    return places[order.to(labels.device)]


def choose_steepest(
    surrogate: Surrogate, images: Tensor, labels: Tensor, *, target_class: int, count: int
) -> Tensor:
    """The images of a class with the largest gradients: a small change of them moves most.

    Souri et al., "Sleeper Agent" (arXiv 2106.08970), section on poison selection.

    Args:
        surrogate: The network whose gradient it is.
        images: uint8 ``[n, channels, height, width]``.
        labels: int64 ``[n]``.
        target_class: See ``choose``.
        count: How many.

    Returns:
        Their places, int64 ``[count]``, the steepest first.

    Raises:
        ValueError: If there are not so many.
    """
    places = _of_class(labels, target_class, count)
    norms = gradient_norms(surrogate, pixels_of(images[places]), labels[places])
    return places[norms.argsort(descending=True, stable=True)[:count]]


def gradient_norms(surrogate: Surrogate, pixels: Tensor, labels: Tensor) -> Tensor:
    """L2 norm of each image's own gradient of the cross-entropy.

    Args:
        surrogate: The network, in evaluation mode.
        pixels: float ``[n, channels, height, width]`` in [0, 1].
        labels: int64 ``[n]``.

    Returns:
        float ``[n]``.
    """
    fixed = {name: p.detach() for name, p in surrogate.parameters.items()}
    taken = surrogate.network_input(pixels)

    def loss(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        state = {**parameters, **surrogate.buffers}
        logits = functional_call(surrogate.model, state, (image.unsqueeze(0),))
        return functional.cross_entropy(logits, label.unsqueeze(0))

    def norm(image: Tensor, label: Tensor) -> Tensor:
        each = grad(loss)(fixed, image, label)
        return torch.sqrt(torch.stack([g.square().sum() for g in each.values()]).sum())

    norms: Tensor = vmap(norm, chunk_size=TOGETHER)(taken, labels)
    return norms.detach()


def _of_class(labels: Tensor, target_class: int, count: int) -> Tensor:
    places = (labels == target_class).nonzero().squeeze(1)
    if not 1 <= count <= len(places):
        raise ValueError(
            f"{count} poisons of class {target_class} were asked for; there are {len(places)} "
            "images of it"
        )
    return places
