"""An untrained generator beside pixels, on gradients with noise or with few entries.

Both forms of the attack use the objective and the iterations of ``fast``. Form and weight of the
total variation are chosen on a few batches, and others are scored.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import fmean

import torch
from pydantic import TypeAdapter
from torch import Tensor

from attacks.reconstruction import PRESETS, AttackSettings, invert
from attacks.reconstruction.candidates import STEPS
from benchmarks.kept import Kept, stamp
from benchmarks.options import Options, data_sets
from benchmarks.report import THREADS, Claim, Figure, Report, console
from benchmarks.victims import Victim, victim
from fedlab.core.seeds import generator
from fedlab.data.images import ImageData
from fedlab.data.loading import load
from fedlab.defenses.clip_noise import noised
from fedlab.defenses.pruning import pruned
from fedlab.evaluation.tuning_budget import quality_of
from fedlab.models import build

SETS = ("cifar10", "fashion_mnist")
BATCHES = (1, 4)
TUNED, SCORED, CLAIMED = 3, 16, "cifar10"
WIDTH = 16
WEIGHTS = (0.03, 0.1, 0.3)

TensorMap = Mapping[str, Tensor]
Scores = dict[str, list[float]]

PIXELS, DECODER = "pixels", "deep decoder"
FORMS: Mapping[str, tuple[AttackSettings, ...]] = {
    PIXELS: tuple(replace(PRESETS["fast"], **STEPS[form]) for form in ("plain", "smooth")),
    DECODER: (PRESETS["deep-decoder"],),
}
"""Forms of the attack, of which each is tried with every weight of the total variation."""

CHANGES: Mapping[str, Callable[[TensorMap, torch.Generator], TensorMap]] = {
    "noise 0.3": lambda update, draws: with_noise(update, 0.3, draws),
    "noise 1": lambda update, draws: with_noise(update, 1.0, draws),
    "pruning 99 %": lambda update, draws: {
        name: pruned(tensor, share=0.99) for name, tensor in update.items()
    },
}
"""What happens to the gradient; noise is relative to its length."""


def run(options: Options) -> Report:
    """Attack batches of both data sets after each change.

    Raises:
        BadInput: If there is no folder with the data sets.
    """
    torch.set_num_threads(THREADS)
    files = data_sets(options, SETS)
    keep = Kept(options.cells, stamp(*files, Path(__file__)), TypeAdapter(Scores))
    count, figures, gains = options.repeats or SCORED, [], {}
    for file, size, change in product(files, BATCHES, CHANGES):
        name = f"{file.stem}, {change}, batches of {size}"
        if name not in keep.results:
            keep.add(name, scores(load(f"npz:{file}"), size, change, count))
        found = keep.results[name]
        gain = [one - of for one, of in zip(found[DECODER], found[PIXELS], strict=True)]
        gains[file.stem, size, change] = gain
        figures += [Figure(f"{name}, {form}: PSNR", "dB", found[form]) for form in FORMS]
        figures.append(Figure(f"{name}: gain of the decoder", "dB", gain))
        means = ", ".join(f"{form} {fmean(found[form]):.1f}" for form in FORMS)
        console.print(f"{name}: {means} dB, gain {fmean(gain):.1f}", highlight=False)
    return Report(
        title="When does an untrained generator find more than a search for pixels?",
        settings={
            "network": f"convnet of width {WIDTH}, untrained, evaluation mode",
            "attack": f"fast, {PRESETS['fast'].iterations} iterations, labels known",
            "choice": f"form and weight on {TUNED} batches, others are scored",
            "noise": "length of the noise over that of the gradient",
        },
        figures=figures,
        claims=[
            Claim(
                f"the decoder gains at least 1 dB on {CLAIMED} under {change}, batches of {size}: "
                f"{fmean(gains[CLAIMED, size, change]):.1f} dB",
                fmean(gains[CLAIMED, size, change]) >= 1,
            )
            for size, change in product(BATCHES, CHANGES)
            if change.startswith("noise")
        ],
    )


def scores(data: ImageData, size: int, change: str, count: int) -> Scores:
    """Mean PSNR of each scored batch in dB, at most 40 of an image, by form of the attack.

    Args:
        data: Data set, of which test images are attacked.
        size: Number of images of a batch.
        change: Key of ``CHANGES``.
        count: Number of scored images.
    """
    model = build("convnet", shape=data.shape, classes=data.num_classes, width=WIDTH, seed=0).eval()
    draws = generator(0, "decoder")
    places = torch.randperm(len(data.test_images), generator=draws)
    victims = []
    for batch in places[: (TUNED + -(-count // size)) * size].split(size):
        plain = victim(model, data, batch.tolist())
        sent = dict(CHANGES[change](plain.payload.tensors, draws))
        victims.append(replace(plain, payload=replace(plain.payload, tensors=sent)))
    mask = "nonzero" if change.startswith("pruning") else None
    found = {}
    for form, kinds in FORMS.items():
        tried = [replace(kind, tv=tv, mask=mask) for kind, tv in product(kinds, WEIGHTS)]
        best = max(tried, key=lambda one: fmean(_quality(each, one) for each in victims[:TUNED]))
        found[form] = [_quality(each, best) for each in victims[TUNED:]]
    return found


def with_noise(update: TensorMap, ratio: float, draws: torch.Generator) -> TensorMap:
    """An update with Gaussian noise.

    Args:
        update: Tensors by name.
        ratio: Expected length of the noise over that of the update.
        draws: CPU generator.
    """
    entries = sum(tensor.numel() for tensor in update.values())
    length = sum(float(tensor.square().sum()) for tensor in update.values()) ** 0.5
    return noised(dict(update), deviation=ratio * length / entries**0.5, generator=draws)


def _quality(given: Victim, attack: AttackSettings) -> float:
    seed = torch.Generator().manual_seed(0)
    found = invert(given.model, given.state, given.payload, given.knowledge, attack, generator=seed)
    return quality_of(given.pixels)(found.images)
