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
    """Change images within epsilon so that the network predicts a wrong class.

    x <- Proj(x + a sign(grad_x L(f(x), y))), with L the cross-entropy and Proj onto the ball of
    radius epsilon around the image and onto [0, 1]. The result is the last x, as in the paper,
    not the one with the highest loss.

    The network's parameters, their ``grad`` and its mode stay unchanged. Set it to evaluation mode
    before: in training mode BatchNorm would learn from the attacked images. Several batches can
    share one generator; the draws for an image then depend on the order of the batches.

    Args:
        logits: Maps pixels to logits ``[n, classes]``, including normalisation.
        pixels: Images, float ``[n, channels, height, width]`` in [0, 1].
        labels: Class of each image, int64 ``[n]``: the true classes or, if targeted, the
            wanted ones.
        epsilon: Largest change of a pixel where pixels are in [0, 1], such as 8/255.
        step: Mean step size a, in the same unit.
        iterations: Number of steps, each of one forward and one backward pass.
        generator: CPU generator of the starting point and the step sizes.
        sizes: Draws the step size of each iteration; ``fixed`` is PGD.
        start: Starting point: ``random`` is uniform within epsilon, ``clean`` is the image itself.
        targeted: Decrease the loss of ``labels`` instead of increasing it.

    Returns:
        New images of the same shape and dtype, detached from the graph.

    Raises:
        ValueError: If epsilon, step or iterations is negative, or a pixel is not in [0, 1].
    """
    if epsilon < 0 or step < 0 or iterations < 0:
        raise ValueError(
            f"epsilon ({epsilon}), step ({step}) and iterations ({iterations}) cannot be negative"
        )
    pixels = pixels.detach()
    if not bool(((pixels >= 0) & (pixels <= 1)).all()):
        raise ValueError("pixels must be in [0, 1]: attack images before they are normalised")
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
    """Return the gradient of the loss with respect to the images, even under ``no_grad``."""
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        # With the sum, the gradient of an image does not depend on the batch size.
        loss = functional.cross_entropy(logits(leaf), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, leaf)
    return gradient
