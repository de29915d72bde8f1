"""How far a step of the attack is from its floor, for each kind of network.

A step is a forward pass, a backward pass to the weights whose graph is kept, and a backward pass
through both to the images. Of a convolution these are seven products of one size: 1 of the forward
pass, 2 of the backward pass and 4 of the second one, to which PyTorch adds an eighth that nobody
needs. The *minimal* step is this in plain PyTorch, written out for one network and one gradient.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import VisionTransformer

from attacks.gradients import twice_differentiable
from attacks.reconstruction import PRESETS, invert
from benchmarks.options import Options
from benchmarks.report import THREADS, Claim, Figure, Report, console
from benchmarks.victims import CLASSES, Victim, victim
from fedlab.core.seeds import generator
from fedlab.data.images import CENTRED, ImageData
from fedlab.models import build

SHAPE = (3, 32, 32)
SIZES = (1, 8)
"""Images of a batch."""

RESTARTS = 2
BLOCK = 0.1
"""Seconds of the shortest block that is timed; others are longer for the same number of steps."""

TURNS = 5
ATTACK = replace(PRESETS["inverting-gradients"], schedule="constant", keep="last")
BETA, SECOND, EPSILON = *ATTACK.betas, 1e-8
LOW, HIGH = ((bound - CENTRED[0]) / CENTRED[1] for bound in (0, 1))
MOST = 1.1
"""Largest ratio of our step to the minimal one."""


def vit() -> nn.Module:
    """A vision transformer of two layers, on 16 patches of 8x8 pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VisionTransformer(
            image_size=SHAPE[1],
            patch_size=8,
            num_layers=2,
            num_heads=4,
            hidden_dim=64,
            mlp_dim=256,
            num_classes=CLASSES,
        )


KINDS: Mapping[str, Callable[[], nn.Module]] = {
    "mlp of width 200": partial(build, "mlp", shape=SHAPE, classes=CLASSES),
    "lenet": partial(build, "lenet", shape=SHAPE, classes=CLASSES),
    "convnet of width 32": partial(build, "convnet", shape=SHAPE, classes=CLASSES, width=32),
    "convnet8 of width 16": partial(build, "convnet8", shape=SHAPE, classes=CLASSES, width=16),
    "resnet8": partial(build, "resnet8", shape=SHAPE, classes=CLASSES),
    "resnet18 of width 16": partial(build, "resnet18", shape=SHAPE, classes=CLASSES, width=16),
    "vit of width 64": vit,
}
"""Networks by name, in evaluation mode at their initial weights; ``convnet8`` has BatchNorm, the
residual ones have GroupNorm."""


def run(options: Options) -> Report:
    """Time all steps of all networks in this process, in turns."""
    torch.set_num_threads(THREADS)
    figures: list[Figure] = []
    claims: list[Claim] = []
    for name, make in KINDS.items():
        for size in SIZES:
            about = f"{name}, batch of {size}"
            found = measure(make().eval(), size, turns=options.repeats or TURNS)
            figures += found.figures(about)
            ratios = found.over_minimal
            claims.append(Claim.at_most(f"{about}: ours / minimal", median(ratios), MOST))
            console.print(f"{about}: {median(ratios):.3f}", highlight=False)
    return Report(
        title="How far is a step of the attack from its floor?",
        settings={
            "images": "noise of 3x32x32",
            "attack": f"inverting gradients, labels known, total variation {ATTACK.tv:g}",
            "minimal": "plain PyTorch for one network and one gradient",
            "restarts and victims": "one after another, as a CPU runs them in one process",
            "time": "CPU time; steps in turns, each block at least "
            f"{BLOCK:g} s of minimal steps; ours without its set-up",
        },
        figures=figures,
        claims=claims,
    )


@dataclass(frozen=True)
class Steps:
    """Seconds of CPU time, one value for each turn.

    Attributes:
        forward: A forward pass without a graph.
        plain: The minimal step without total variation.
        minimal: The minimal step.
        ours_plain: Our step without total variation.
        ours: Our step.
        restarts: A step of one of ``RESTARTS`` restarts, which share no work on a CPU.
    """

    forward: tuple[float, ...]
    plain: tuple[float, ...]
    minimal: tuple[float, ...]
    ours_plain: tuple[float, ...]
    ours: tuple[float, ...]
    restarts: tuple[float, ...]

    @property
    def over_minimal(self) -> list[float]:
        """Our step over the minimal one, both with total variation."""
        return _ratios(self.ours, self.minimal)

    def figures(self, about: str) -> list[Figure]:
        """All figures of one network and batch."""
        ratios = {
            "minimal / forward": _ratios(self.minimal, self.forward),
            "ours / forward": _ratios(self.ours, self.forward),
            "ours / minimal": self.over_minimal,
            "ours / minimal, no total variation": _ratios(self.ours_plain, self.plain),
            f"one of {RESTARTS} restarts / minimal": _ratios(self.restarts, self.minimal),
        }
        return [
            Figure(f"{about}: forward pass", "ms", [1000 * each for each in self.forward]),
            Figure(f"{about}: our step", "ms", [1000 * each for each in self.ours]),
            *(Figure(f"{about}: {name}", "", values) for name, values in ratios.items()),
        ]


def measure(model: nn.Module, size: int, *, turns: int) -> Steps:
    """Time all steps on one network in turns.

    Args:
        model: Network in evaluation mode.
        size: Number of images of the batch.
        turns: Number of values of each kind.
    """
    one = noise_victim(model, size)
    first = 2 * torch.rand(one.pixels.shape, generator=generator(0, "first images", size)) - 1
    plain, minimal = (partial(minimal_steps, one, first, tv=tv) for tv in (0.0, ATTACK.tv))
    ours_plain, ours = (partial(our_steps, one, first, tv=tv) for tv in (0.0, ATTACK.tv))
    restarts = partial(ours, restarts=RESTARTS)
    with twice_differentiable(model):
        count = 1
        while (seconds := _seconds(minimal, count) * count) < BLOCK:
            count = math.ceil(count * min(10.0, 1.2 * BLOCK / seconds))
        found = [
            (
                _seconds(partial(_passes, one), 5 * count),
                _seconds(plain, count),
                _seconds(minimal, count),
                _without_start(ours_plain, count),
                _without_start(ours, count),
                _without_start(restarts, count) / RESTARTS,
            )
            for _ in range(turns)
        ]
    return Steps(*zip(*found, strict=True))


def minimal_steps(one: Victim, first: Tensor, count: int, *, tv: float) -> Tensor:
    """Attack a gradient by steps that do only what every attack of this kind has to.

    Args:
        one: Victim that sent a gradient.
        first: float ``[n, channels, height, width]``, normalised images to start from.
        count: Number of steps.
        tv: Weight of the total variation.

    Returns:
        Normalised images ``[n, channels, height, width]``.
    """
    images = first.clone().requires_grad_()
    weights = list(one.model.parameters())
    captured = list(one.payload.tensors.values())
    target = [each / _dot(captured, captured).sqrt() for each in captured]
    moment, square = torch.zeros_like(first), torch.zeros_like(first)
    for step in range(1, count + 1):
        loss = functional.cross_entropy(one.model(images), one.labels)
        gradient = torch.autograd.grad(loss, weights, create_graph=True)
        with torch.no_grad():  # the derivative of 1 - <g, t> / ||g|| with respect to g
            along, inverse = _dot(gradient, target), _dot(gradient, gradient).rsqrt()
            factor = along * inverse**3
            slopes = [g * factor - t * inverse for g, t in zip(gradient, target, strict=True)]
        (slope,) = torch.autograd.grad(gradient, images, slopes)
        if tv:
            across = (images[..., :, 1:] - images[..., :, :-1]).abs().mean()
            down = (images[..., 1:, :] - images[..., :-1, :]).abs().mean()
            slope = slope + torch.autograd.grad(tv * (across + down), images)[0]
        with torch.no_grad():
            slope = slope.sign()
            moment.lerp_(slope, 1 - BETA)
            square.mul_(SECOND).addcmul_(slope, slope, value=1 - SECOND)
            root = (square.sqrt() / (1 - SECOND**step) ** 0.5).add_(EPSILON)
            images.addcdiv_(moment, root, value=-ATTACK.lr / (1 - BETA**step))
            images.clamp_(LOW, HIGH)
    return images.detach()


def our_steps(one: Victim, first: Tensor, count: int, *, tv: float, restarts: int = 1) -> Tensor:
    """The same steps by ``invert``.

    Args:
        one: Victim that sent a gradient.
        first: float ``[n, channels, height, width]``, normalised images to start from.
        count: Number of steps of each restart.
        tv: Weight of the total variation.
        restarts: Number of restarts.

    Returns:
        Normalised images ``[n, channels, height, width]``.
    """
    attack = replace(ATTACK, tv=tv, iterations=count, restarts=restarts)
    pixels = first * CENTRED[1] + CENTRED[0]
    random = torch.Generator().manual_seed(0)
    found = invert(
        one.model,
        one.state,
        one.payload,
        one.knowledge,
        attack,
        generator=random,
        initial_images=pixels,
    )
    return (found.images - CENTRED[0]) / CENTRED[1]


def noise_victim(model: nn.Module, size: int) -> Victim:
    """A victim with one batch of random images.

    Args:
        model: Network in evaluation mode for images of ``SHAPE``.
        size: Number of images of the batch.
    """
    draws = generator(0, "victim of the benchmark attack_step", size)
    images = torch.randint(256, (size, *SHAPE), generator=draws, dtype=torch.uint8)
    labels = torch.arange(size) % CLASSES
    mean, std = ((value,) * SHAPE[0] for value in CENTRED)
    names = tuple(map(str, range(CLASSES)))
    data = ImageData("noise", images, labels, images, labels, names, mean, std)
    return victim(model, data, list(range(size)))


def _passes(one: Victim, count: int) -> None:
    """Forward passes without a graph."""
    images = one.pixels
    with torch.no_grad():
        for _ in range(count):
            one.model(images)


def _dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    pairs = zip(left, right, strict=True)
    return torch.stack([torch.dot(one.flatten(), other.flatten()) for one, other in pairs]).sum()


def _seconds(steps: Callable[[int], object], count: int) -> float:
    """Seconds of CPU time of one of so many steps."""
    started = time.process_time()
    steps(count)
    return (time.process_time() - started) / count


def _without_start(steps: Callable[[int], object], count: int) -> float:
    """Seconds of CPU time of one step, without what all steps have before them."""
    started = time.process_time()
    steps(count)
    between = time.process_time()
    steps(2 * count)
    return (time.process_time() - between - (between - started)) / count


def _ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(over, under, strict=True)]
