"""How is WITCHcraft's random step best drawn? One size for each image or pixel, beside PGD.

The paper's distribution could not be read (arXiv 1911.07989), so the draw and the mean step are
varied, against networks trained adversarially, at equal numbers of gradient steps.
"""

from collections.abc import Callable, Mapping
from functools import partial
from statistics import fmean

from torch import Tensor

from attacks.evasion.pgd import pgd
from attacks.evasion.witchcraft import witchcraft
from benchmarks.evasion import ITERATIONS, STEP, STEPS, TIE, Victim, trained
from benchmarks.report import THREADS, Claim, Figure
from fedlab.core.devices import prepare
from fedlab.data.images import ImageData

IMAGES = 1_000
ATTACKS: Mapping[str, Callable[..., Tensor]] = {
    "PGD": pgd,
    "WITCHcraft": witchcraft,
    "WITCHcraft by pixel": partial(witchcraft, each="pixel"),
}


def step_draws(data: ImageData, seeds: range) -> tuple[list[Figure], list[Claim]]:
    """Measure the accuracy that each attack leaves at each mean step size.

    Args:
        data: Images to train on and to attack.
        seeds: Seeds of the networks.
    """
    prepare(THREADS)
    victims = [
        Victim(trained(data, seed, adversarial=True), data, seed, images=IMAGES) for seed in seeds
    ]
    clean = [each.accuracy(pgd, 0, STEP) for each in victims]
    figures = [Figure("adversarially trained: accuracy within random noise", "", clean)]
    gains: dict[str, list[float]] = {name: [] for name in ATTACKS}
    for iterations in ITERATIONS:
        for factor in STEPS:
            left = {
                name: [each.accuracy(attack, iterations, factor * STEP) for each in victims]
                for name, attack in ATTACKS.items()
            }
            where = f"adversarially trained, {iterations} iterations, {factor} times the step"
            for name, values in left.items():
                figures.append(Figure(f"{where}: {name}", "", values))
                gains[name] += [p - v for p, v in zip(left["PGD"], values, strict=True)]
    return figures, [_better(name, gains[name]) for name in ATTACKS if name != "PGD"]


def _better(name: str, gains: list[float]) -> Claim:
    gain = fmean(gains)
    return Claim(
        f"{name} leaves {100 * abs(gain):.2f} points {'less' if gain > 0 else 'more'} accuracy "
        f"than PGD of the same mean step, on average over {len(gains)} pairs",
        gain > TIE,
    )
