"""Selection of the training images that become poisons."""

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from attacks.poisoning.crafting import pixels_of
from attacks.poisoning.surrogate import Surrogate

TOGETHER = 64
"""Number of images whose gradients are in memory at a time."""


def choose(labels: Tensor, *, target_class: int, count: int, generator: torch.Generator) -> Tensor:
    """Choose random images of a class.

    Args:
        labels: Class of each image, int64 ``[n]``.
        target_class: Class of the poisons, which the model shall predict for the target.
        count: Number of poisons.
        generator: CPU random generator.

    Returns:
        Indices of the chosen images, int64 ``[count]``, on the device of the labels.

    Raises:
        ValueError: If the class has fewer images.
    """
    places = _of_class(labels, target_class, count)
    order = torch.randperm(len(places), generator=generator)[:count]
    return places[order.to(labels.device)]


def choose_steepest(
    surrogate: Surrogate, images: Tensor, labels: Tensor, *, target_class: int, count: int
) -> Tensor:
    """Choose the images of a class with the largest gradients.

    Souri et al., "Sleeper Agent" (arXiv 2106.08970), section on poison selection.

    Args:
        surrogate: Network that computes the gradients.
        images: Images, uint8 ``[n, channels, height, width]``.
        labels: Class of each image, int64 ``[n]``.
        target_class: Class of the poisons.
        count: Number of poisons.

    Returns:
        Indices of the chosen images, int64 ``[count]``, the largest gradient first.

    Raises:
        ValueError: If the class has fewer images.
    """
    places = _of_class(labels, target_class, count)
    norms = gradient_norms(surrogate, pixels_of(images[places]), labels[places])
    return places[norms.argsort(descending=True, stable=True)[:count]]


def gradient_norms(surrogate: Surrogate, pixels: Tensor, labels: Tensor) -> Tensor:
    """Return the L2 norm of the gradient of each image's cross-entropy.

    Args:
        surrogate: Network in evaluation mode.
        pixels: Images, float ``[n, channels, height, width]`` in [0, 1].
        labels: Class of each image, int64 ``[n]``.

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
            f"{count} poisons of class {target_class} were asked for, but there are only "
            f"{len(places)} images of it"
        )
    return places
