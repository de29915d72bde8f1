"""Is a random step size better than a fixed one? WITCHcraft beside PGD at equal iterations.

Networks trained plainly and adversarially (Madry et al., arXiv 1706.06083), several seeds; the
fixed step is also varied around its usual size, to see how much it matters.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.nn import functional

from attacks.evasion.pgd import pgd
from attacks.evasion.witchcraft import witchcraft
from benchmarks.report import THREADS, Claim, Figure
from fedlab.core.devices import prepare
from fedlab.core.modes import evaluation
from fedlab.core.seeds import derive, generator
from fedlab.data.images import ImageData
from fedlab.models import build

EPSILON, STEP = 0.1, 0.02
"""On pixels in [0, 1], for Fashion-MNIST."""
ITERATIONS = (10, 20)
STEPS = (0.5, 1.0, 2.0, 4.0)
"""Fixed step sizes, in units of ``STEP``."""
IMAGES = 500
EPOCHS = 8
BATCH, LR = 64, 0.1
TIE = 0.005
"""Accuracy by which WITCHcraft may be behind and the two still count as equal."""


@dataclass(frozen=True)
class Victim:
    """A trained network and the images on which it is attacked.

    Attributes:
        network: The network.
        data: Its images.
        seed: Seed of the attacks' random draws.
        images: Number of test images that are attacked.
    """

    network: nn.Module
    data: ImageData
    seed: int
    images: int = IMAGES

    def logits(self, pixels: Tensor) -> Tensor:
        """Logits of pixels in [0, 1], float ``[n, classes]``."""
        found: Tensor = self.network(self.data.normalise(pixels))
        return found

    def accuracy(self, attack: Callable[..., Tensor], iterations: int, step: float) -> float:
        """Accuracy under an attack on the first test images."""
        pixels = self.data.pixels(self.data.test_images[: self.images])
        labels = self.data.test_labels[: self.images]
        with evaluation(self.network):
            attacked = attack(
                self.logits,
                pixels,
                labels,
                epsilon=EPSILON,
                step=step,
                iterations=iterations,
                generator=generator(self.seed, "evasion"),
            )
            return float((self.logits(attacked).argmax(1) == labels).float().mean())


def evasion(data: ImageData, seeds: range) -> tuple[list[Figure], list[Claim]]:
    """Measure the accuracy that both attacks leave.

    Args:
        data: Images to train on and to attack.
        seeds: Seeds of the networks.
    """
    prepare(THREADS)
    figures, differences = [], []
    for name, adversarial in (("plainly", False), ("adversarially", True)):
        victims = [
            Victim(trained(data, seed, adversarial=adversarial), data, seed) for seed in seeds
        ]
        clean = [each.accuracy(pgd, 0, STEP) for each in victims]
        figures.append(Figure(f"trained {name}: accuracy within random noise", "", clean))
        for iterations in ITERATIONS:
            fixed = [each.accuracy(pgd, iterations, STEP) for each in victims]
            drawn = [each.accuracy(witchcraft, iterations, STEP) for each in victims]
            differences += [one - other for one, other in zip(fixed, drawn, strict=True)]
            where = f"trained {name}, {iterations} iterations"
            figures += [
                Figure(f"{where}: PGD", "", fixed),
                Figure(f"{where}: WITCHcraft", "", drawn),
            ]
        for factor in STEPS:
            least = [each.accuracy(pgd, ITERATIONS[0], factor * STEP) for each in victims]
            what = f"trained {name}, {ITERATIONS[0]} iterations: PGD, {factor} times the step"
            figures.append(Figure(what, "", least))
    gain = fmean(differences)
    return figures, [
        Claim(
            f"WITCHcraft leaves {100 * abs(gain):.2f} points {'less' if gain > 0 else 'more'} "
            f"accuracy than PGD with its usual step, on average over {len(differences)} pairs",
            gain >= -TIE,
        )
    ]


def trained(data: ImageData, seed: int, *, adversarial: bool) -> nn.Module:
    """Train a network, plainly or on images that PGD has changed.

    Args:
        data: Images to train on.
        seed: Seed of the weights, the order and the attack.
        adversarial: Train on attacked images.
    """
    network = build(
        "convnet",
        shape=data.shape,
        classes=data.num_classes,
        width=16,
        seed=derive(seed, "evasion model"),
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=LR)
    drawn = generator(seed, "evasion training")

    def logits(pixels: Tensor) -> Tensor:
        found: Tensor = network(data.normalise(pixels))
        return found

    harden = partial(pgd, logits, epsilon=EPSILON, step=2 * STEP, iterations=5, generator=drawn)
    for _ in range(EPOCHS):
        for places in torch.randperm(len(data.train_labels), generator=drawn).split(BATCH):
            pixels, labels = data.pixels(data.train_images[places]), data.train_labels[places]
            if adversarial:
                network.eval()
                pixels = harden(pixels, labels)
                network.train()
            optimizer.zero_grad()
            functional.cross_entropy(logits(pixels), labels).backward()
            optimizer.step()
    return network
