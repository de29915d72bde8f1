"""Robustness of a model to evasion attacks on its test images."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from attacks.evasion.pgd import pgd
from attacks.evasion.witchcraft import witchcraft
from fedlab.core.modes import evaluation

STEP = 2.5
"""Step size of PGD times iterations over epsilon (Madry et al., arXiv 1706.06083), which suffices
to cross the ball."""

Evasion = Callable[..., Tensor]
"""An evasion attack with the signature of ``pgd``."""


@dataclass(frozen=True)
class Robustness:
    """Accuracy on test images in [0, 1], unchanged and changed by at most epsilon.

    Attributes:
        epsilon: Largest change of a pixel, on pixels in [0, 1].
        iterations: Number of iterations of both attacks, from one random start.
        images: Number of attacked images.
        clean: Accuracy on the unchanged images.
        noise: Accuracy with every pixel changed by plus or minus epsilon at random.
        pgd: Accuracy under projected gradient descent with a fixed step size.
        witchcraft: Accuracy under projected gradient descent with random step sizes of that mean.
    """

    epsilon: float
    iterations: int
    images: int
    clean: float
    noise: float
    pgd: float
    witchcraft: float

    def __str__(self) -> str:
        """All values in one line."""
        return (
            f"accuracy on {self.images} test images: clean {self.clean:.3f}; within "
            f"{self.epsilon * 255:.1f}/255 under random noise {self.noise:.3f}, PGD "
            f"{self.pgd:.3f}, WITCHcraft {self.witchcraft:.3f} ({self.iterations} iterations)"
        )


def robustness(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    network_input: Callable[[Tensor], Tensor],
    *,
    epsilon: float,
    iterations: int,
    generator: torch.Generator,
    step: float | None = None,
    batch: int = 256,
) -> Robustness:
    """Measure a model's accuracy under evasion attacks.

    Args:
        model: Network from normalised images to logits; the modes of its modules are restored.
        images: uint8 ``[n, channels, height, width]``, test images, at least one.
        labels: int64 ``[n]``, labels of the images.
        network_input: Function that normalises pixels in [0, 1].
        epsilon: Largest change of a pixel, in (0, 1].
        iterations: Number of iterations of each attack, at least 1.
        generator: CPU generator of starts and step sizes.
        step: Mean step size; by default ``STEP`` times epsilon over the iterations.
        batch: Number of images that are attacked at a time.
    """
    size = STEP * epsilon / iterations if step is None else step

    def attacked(attack: Evasion, pixels: Tensor, true: Tensor) -> Tensor:
        return attack(
            logits,
            pixels,
            true,
            epsilon=epsilon,
            step=size,
            iterations=iterations,
            generator=generator,
        )

    def logits(pixels: Tensor) -> Tensor:
        found: Tensor = model(network_input(pixels))
        return found

    def noise(pixels: Tensor, _: Tensor) -> Tensor:
        signs = torch.randint(2, pixels.shape, generator=generator).to(pixels.device) * 2 - 1
        return (pixels + epsilon * signs).clamp(0, 1)

    attacks: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "clean": lambda pixels, _: pixels,
        "noise": noise,
        "pgd": partial(attacked, pgd),
        "witchcraft": partial(attacked, witchcraft),
    }
    right = dict.fromkeys(attacks, 0)
    with evaluation(model):
        for start in range(0, len(images), batch):
            pixels = images[start : start + batch].float().div(255)
            true = labels[start : start + batch]
            for name, attack in attacks.items():
                right[name] += int((logits(attack(pixels, true)).argmax(1) == true).sum())
    share = {name: count / len(images) for name, count in right.items()}
    return Robustness(epsilon, iterations, len(images), **share)
