"""The prior on super-pixels beside the total variation of pixels, on noisy and pruned gradients."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from statistics import fmean

import torch
from torch import Tensor

from attacks.reconstruction import PRESETS, AttackSettings, invert
from attacks.reconstruction.graph_prior import GraphVariation
from benchmarks.report import THREADS, Figure, console
from benchmarks.victims import Victim, victim
from fedlab.data.images import CENTRED, ImageData
from fedlab.data.photographs import photograph_crops
from fedlab.defenses.clip_noise import clipped, noised
from fedlab.defenses.pruning import pruned
from fedlab.metrics.images import psnr
from fedlab.metrics.similarity import ssim
from fedlab.models import build

SIDE, IMAGES, ITERATIONS = 64, 3, 60
WEIGHTS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Weights that every prior is tuned over, the best on the images themselves."""

TensorMap = Mapping[str, Tensor]

DEFENSES: Mapping[str, Callable[[TensorMap, torch.Generator], TensorMap]] = {
    "DP-SGD z=0.1": lambda update, draws: _private(update, 0.1, draws),
    "DP-SGD z=0.3": lambda update, draws: _private(update, 0.3, draws),
    "pruning 99 %": lambda update, draws: {
        name: pruned(tensor, share=0.99) for name, tensor in update.items()
    },
}

FAST = replace(PRESETS["fast"], iterations=ITERATIONS, source="")

PRIORS: Mapping[str, Callable[[float], AttackSettings]] = {
    "pixels": lambda weight: replace(FAST, tv=weight),
    "super-pixels": lambda weight: _graph(GraphVariation(), weight),
    "blocks, then super-pixels": lambda weight: _graph(GraphVariation("blocks"), weight),
}
"""Attack by the name of its prior."""


def measure(defense: str) -> list[Figure]:
    """PSNR and SSIM of each prior at its best weight.

    Args:
        defense: Key of ``DEFENSES``.
    """
    torch.set_num_threads(THREADS)
    draws = torch.Generator().manual_seed(0)
    pixels = photograph_crops((3, SIDE, SIDE), IMAGES, draws)
    victims = [_victim(pixels, place, DEFENSES[defense], draws) for place in range(IMAGES)]
    best: dict[str, tuple[list[float], list[float], float]] = {}
    for (prior, attack), weight in product(PRIORS.items(), WEIGHTS):
        scores = [_scores(each, attack(weight)) for each in victims]
        quality, structure = [one for one, _ in scores], [other for _, other in scores]
        if prior not in best or fmean(quality) > fmean(best[prior][0]):
            best[prior] = quality, structure, weight
    found = []
    for prior, (quality, structure, weight) in best.items():
        title = f"{defense}, total variation of {prior}"
        console.print(f"{title}: {fmean(quality):.2f} dB at {weight:g}", highlight=False)
        found.append(Figure(f"{title}: best weight", "", [weight]))
        found.append(Figure(f"{title}: PSNR", "dB", quality))
        found.append(Figure(f"{title}: SSIM", "", structure))
        if prior != "pixels":
            gain = [one - of for one, of in zip(quality, best["pixels"][0], strict=True)]
            found.append(Figure(f"{title}: PSNR over pixels", "dB", gain))
    return found


def _graph(prior: GraphVariation, weight: float) -> AttackSettings:
    return replace(FAST, tv=0.0, priors=((prior, weight),))


def _private(update: TensorMap, noise: float, draws: torch.Generator) -> TensorMap:
    """The gradient of one image as DP-SGD sends it, with a clipping norm of 1."""
    return noised(clipped(dict(update), 1.0), deviation=noise, generator=draws)


def _victim(
    pixels: Tensor,
    place: int,
    change: Callable[[TensorMap, torch.Generator], TensorMap],
    draws: torch.Generator,
) -> Victim:
    labels = torch.arange(IMAGES)
    images = (255 * pixels).round().to(torch.uint8)
    data = ImageData(
        name="crops of photographs",
        train_images=images,
        train_labels=labels,
        test_images=images,
        test_labels=labels,
        classes=tuple("0123456789"),
        mean=CENTRED[:1] * 3,
        std=CENTRED[1:] * 3,
    )
    model = build("convnet", shape=data.shape, classes=10, width=16, seed=0).eval()
    plain = victim(model, data, [place])
    sent = replace(plain.payload, tensors=dict(change(plain.payload.tensors, draws)))
    return replace(plain, payload=sent)


def _scores(given: Victim, attack: AttackSettings) -> tuple[float, float]:
    """PSNR and SSIM of an attack on a victim."""
    found = invert(
        given.model,
        given.state,
        given.payload,
        given.knowledge,
        attack,
        generator=torch.Generator().manual_seed(0),
    )
    return float(psnr(given.pixels, found.images)), float(ssim(given.pixels, found.images))
