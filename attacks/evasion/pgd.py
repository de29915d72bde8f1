"""Projected gradient descent against a classifier, in the maximum norm.

Madry et al., "Towards Deep Learning Models Resistant to Adversarial Attacks" (arXiv 1706.06083).
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from attacks.evasion.step_sizes import StepSizes, fixed


def pgd(
    logits: Callable[[Tensor], Tensor],
    pixels: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    step: float,
    iterations: int,
    generator: torch.Generator,
    sizes: StepSizes = fixed,
    start: Literal["random", "clean"] = "random",
    targeted: bool = False,
) -> Tensor:
    """Images within epsilon of the given ones that the network should get wrong.

    x <- Proj(x + a sign(grad_x L(f(x), y))), with L the cross-entropy and Proj onto the ball of
    radius epsilon around the image and onto [0, 1]. The last x is the result, as in the paper, and
    not the one with the highest loss on the way.

    The network is only asked for the gradient by its input: its parameters, their ``grad`` and its
    mode stay as they are. Put it into evaluation mode before; in training mode batch norm would
    learn from the attacked images. Batches can be attacked one after another with one generator;
    what is drawn for an image then depends on the batches.

    Args:
        logits: Maps pixels to logits ``[n, classes]``; normalises them itself.
        pixels: float ``[n, channels, height, width]`` in [0, 1].
        labels: int64 ``[n]``: the true classes or, if targeted, those that are wanted.
        epsilon: Most that a pixel changes, in pixel units such as 8/255.
        step: Mean step size a, in the same units.
        iterations: Steps, each of one forward and one backward pass.
        generator: CPU generator of the start and the step sizes.
        sizes: Draws the step size of each iteration; ``fixed`` is PGD.
        start: A uniformly random point of the ball, or the image itself.
        targeted: Whether to go down the loss of ``labels`` instead of up.

    Returns:
        New images of the same shape and type, without a graph.

    Raises:
        ValueError: If epsilon, step or iterations is negative, or a pixel is not in [0, 1].
    """
    if epsilon < 0 or step < 0 or iterations < 0:
        raise ValueError(
            f"epsilon ({epsilon}), step ({step}) and iterations ({iterations}) cannot be negative"
        )
    pixels = pixels.detach()
    if not bool(((pixels >= 0) & (pixels <= 1)).all()):
        raise ValueError("pixels lie in [0, 1]: attack them before they are normalised")
    low, high = (pixels - epsilon).clamp(min=0), (pixels + epsilon).clamp(max=1)
    attacked = pixels.clone()
    if start == "random":
        noise = torch.rand(pixels.shape, generator=generator, dtype=pixels.dtype).to(pixels.device)
        attacked = (pixels + epsilon * (2 * noise - 1)).clamp(low, high)
    for _ in range(iterations):
        uphill = _gradient(logits, attacked, labels).sign()
        size = sizes(step, pixels.shape, generator=generator).to(pixels)
        attacked = (attacked + (-size if targeted else size) * uphill).clamp(low, high)
    return attacked


def _gradient(logits: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> Tensor:
    """Gradient of the loss by the images, also where gradients are switched off."""
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        # The sum, so that an image's gradient does not shrink with the batch.
        loss = functional.cross_entropy(logits(leaf), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, leaf)
    return gradient
