"""Availability poisons: changes of all images after which a trained model generalises badly.

``misalign_training`` is Fowl et al., "Preventing Unauthorized Use of Proprietary Data: Poisoning
for Secure Dataset Release" (arXiv 2103.02683); ``adversarial_poisons`` their follow-up,
"Adversarial Examples Make Strong Poisons" (arXiv 2106.10807).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from attacks.poisoning.augment import CropAndFlip
from attacks.poisoning.crafting import Cost, CraftedImages, CraftSettings, craft, pixels_of
from attacks.poisoning.gradient_matching import matching
from attacks.poisoning.surrogate import Surrogate

PARTITION = 512
"""Number of images that are changed together; memory stores the graph of that many."""

PGD = CraftSettings(epsilon=8 / 255, steps=250, restarts=8, lr=0.05 * 8 / 255, rule="pgd")
"""Settings of the code of arXiv 2106.10807; its step size is 0.05 epsilon."""


def reverse_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of -log(1 - p_y), which falls as the model predicts any class but the true one.

    Its gradient vanishes where p_y is small, while that of the negative cross-entropy grows
    without bound (arXiv 2103.02683). It is computed as softplus(z_y - logsumexp of the other
    logits), so it is finite and has a gradient where p_y rounds to 1.

    Args:
        logits: float ``[n, classes]``, at least two classes.
        labels: Class of each image, int64 ``[n]``.

    Returns:
        A scalar.

    Example:
        >>> float(reverse_cross_entropy(torch.tensor([[0.0, 0.0]]), torch.tensor([0])))
        0.6931471824645996
    """
    own = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    others = logits.scatter(1, labels.unsqueeze(1), -torch.inf).logsumexp(1)
    return functional.softplus(own - others).mean()


def misalign_training(
    surrogates: Sequence[Surrogate],
    images: Tensor,
    labels: Tensor,
    *,
    settings: CraftSettings,
    augment: CropAndFlip | None = None,
    partition: int = PARTITION,
    generator: torch.Generator,
) -> CraftedImages:
    """Change all images so that their training gradient lowers the reverse cross-entropy.

    The gradient of the reverse cross-entropy over the whole clean set is computed once, so the
    partitions are crafted independently of each other.

    Args:
        surrogates: Networks trained on the clean images. The paper uses fully trained ones; small
            networks trained for fewer epochs worked better here, because their gradients are
            larger.
        images: Images, uint8 ``[n, channels, height, width]``, all of the training set.
        labels: Class of each image, int64 ``[n]``; it stays right.
        settings: Largest change, steps and restarts.
        augment: Augmentation of the images, drawn anew in every step.
        partition: Number of images that are changed together.
        generator: CPU random generator.

    Returns:
        The changed images. The costs are means over partitions, and ``kept`` is the restart with
        the lowest mean cost.
    """
    wanted = [_reverse_gradient(s, images, labels, together=partition) for s in surrogates]

    def costs(places: slice) -> list[Cost]:
        of_this: list[Cost] = []
        for surrogate, direction in zip(surrogates, wanted, strict=True):
            of_this += matching(
                surrogate, labels[places], direction, augment=augment, block=partition
            )
        return of_this

    return _by_partition(images, costs, settings, partition, generator)


def adversarial_poisons(
    surrogates: Sequence[Surrogate],
    images: Tensor,
    labels: Tensor,
    *,
    num_classes: int,
    settings: CraftSettings = PGD,
    augment: CropAndFlip | None = None,
    partition: int = PARTITION,
    generator: torch.Generator,
) -> CraftedImages:
    """Change all images so that a clean network predicts the next class; labels stay.

    A network trained on them learns the features of class y + 1 under the label y. Targets are
    permuted class by class, as the code of arXiv 2106.10807 does.

    Args:
        surrogates: Networks trained on the clean images.
        images: Images, uint8 ``[n, channels, height, width]``, all of the training set.
        labels: Class of each image, int64 ``[n]``.
        num_classes: Number of classes C; the target of y is (y + 1) mod C.
        settings: Largest change, steps and restarts.
        augment: Augmentation of the images, drawn anew in every step.
        partition: Number of images that are changed together.
        generator: CPU random generator.

    Returns:
        See ``misalign_training``.
    """
    permuted = (labels + 1) % num_classes

    def costs(places: slice) -> list[Cost]:
        return [_mistaking(s, permuted[places], augment) for s in surrogates]

    return _by_partition(images, costs, settings, partition, generator)


def _mistaking(surrogate: Surrogate, intended: Tensor, augment: CropAndFlip | None) -> Cost:
    def cost(pixels: Tensor, generator: torch.Generator) -> Tensor:
        taken = pixels if augment is None else augment(pixels, generator)
        return functional.cross_entropy(surrogate.logits(taken), intended)

    return cost


def _by_partition(
    images: Tensor,
    costs: Callable[[slice], Sequence[Cost]],
    settings: CraftSettings,
    partition: int,
    generator: torch.Generator,
) -> CraftedImages:
    parts = []
    for first in range(0, len(images), partition):
        places = slice(first, first + partition)
        parts.append(craft(images[places], costs(places), settings=settings, generator=generator))
    mean = torch.stack([part.costs for part in parts]).mean(0)
    return CraftedImages(
        images=torch.cat([part.images for part in parts]),
        costs=mean,
        kept=int(mean[:, -1].argmin()),
    )


def _reverse_gradient(
    surrogate: Surrogate, images: Tensor, labels: Tensor, *, together: int
) -> dict[str, Tensor]:
    """Gradient by the parameters of the mean reverse cross-entropy of the clean images."""
    leaves = {name: p.detach().requires_grad_() for name, p in surrogate.parameters.items()}
    network = replace(surrogate, parameters=leaves)
    total = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    for first in range(0, len(images), together):
        places = slice(first, first + together)
        loss = reverse_cross_entropy(network.logits(pixels_of(images[places])), labels[places])
        gradients = torch.autograd.grad(
            loss, list(leaves.values()), allow_unused=True, materialize_grads=True
        )
        share = len(labels[places]) / len(labels)
        for name, gradient in zip(leaves, gradients, strict=True):
            total[name] += share * gradient
    return total
