"""How large a batch SPEAR separates, and in which time, on an MLP of 512 units.

The images are CIFAR-10's, drawn by seed, the network is untrained and the gradient exact. An image
is found if the reconstruction differs from it by less than a hundredth of its norm.
"""

import time
from collections.abc import Mapping

import torch

from attacks.gradients import batch_gradient
from attacks.reconstruction import PRESETS
from attacks.reconstruction.analytic import invert_first_layer
from attacks.reconstruction.disaggregation import ROUNDS, STARTS
from benchmarks.options import Options, cifar
from benchmarks.report import Claim, Figure, Report, console
from fedlab.core.devices import prepare
from fedlab.core.seeds import generator
from fedlab.data.images import ImageData
from fedlab.data.loading import load
from fedlab.models import build

SIZES = (4, 8, 16, 24, 32, 48)
CLAIMED = 32
"""Batch of which every image must be found."""

UNITS, SEEDS = 512, 5
NEAR = 0.01
"""Largest relative error of an image that counts as found."""

METHODS: Mapping[str, int] = {"analytic": ROUNDS, "spear": PRESETS["spear"].iterations}
"""Rounds of the search by preset."""


def run(options: Options) -> Report:
    """Separate batches of each size by both presets.

    Raises:
        BadInput: If there are no images.
    """
    prepare(1)
    data = load(f"npz:{cifar(options)}")
    figures, shares = [], {}
    for size in SIZES:
        for method, rounds in METHODS.items():
            seeds = range(options.repeats or SEEDS)
            found = [attack(data, size, rounds=rounds, seed=seed) for seed in seeds]
            name = f"batch of {size}, {method}"
            shares[method, size] = [share for share, _ in found]
            figures.append(Figure(f"{name}: images found", "", shares[method, size]))
            figures.append(Figure(f"{name}: CPU time", "s", [seconds for _, seconds in found]))
            took = ", ".join(f"{share:.2f} in {seconds:.1f} s" for share, seconds in found)
            console.print(f"{name}: {took}", highlight=False, soft_wrap=True)
    return Report(
        title="How large a batch does SPEAR separate?",
        settings={
            "network": f"mlp, first layer of {UNITS} units, untrained",
            "images": "CIFAR-10, drawn by seed",
            "searches": f"{STARTS} a round; "
            + ", ".join(f"{m} {r} rounds" for m, r in METHODS.items()),
        },
        figures=figures,
        claims=[
            Claim(
                f"spear finds every image of batches of {CLAIMED}",
                min(shares["spear", CLAIMED]) == 1,
            )
        ],
    )


def attack(data: ImageData, size: int, *, rounds: int, seed: int) -> tuple[float, float]:
    """Share of a batch's images that are found, and the CPU time of the search in seconds."""
    draws = torch.randperm(len(data.train_labels), generator=generator(seed, "spear"))[:size]
    images = data.normalise(data.pixels(data.train_images[draws]))
    model = build("mlp", shape=data.shape, classes=data.num_classes, seed=seed, width=UNITS)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    gradient = batch_gradient(model, parameters, {}, images, data.train_labels[draws])
    started = time.process_time()
    found = invert_first_layer(
        model, gradient, image_shape=data.shape, num_images=size, rounds=rounds
    ).inputs
    seconds = time.process_time() - started
    truth = images.flatten(1)
    errors = torch.cdist(truth, found.flatten(1)).amin(1) / truth.norm(dim=1)
    return float((errors < NEAR).double().mean()), seconds
