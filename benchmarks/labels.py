"""How often each label rule finds all labels of a batch, on untrained and trained networks.

The clients' images are training images, which a trained network has seen; the public images are
test images. Only the last layer's gradient is needed, so batches are cheap.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from attacks.gradients import batch_gradient
from attacks.knowledge import Knowledge, PublicImages
from attacks.payload import Payload
from attacks.reconstruction.labels import apply_rule
from attacks.reconstruction.modes import mode
from attacks.reconstruction.output_layer import Outputs
from attacks.reconstruction.problem import MOST_PUBLIC, Problem
from benchmarks.options import Options, data_sets
from benchmarks.report import THREADS, Claim, Figure, Report, console
from benchmarks.victims import TRAINING_EPOCHS, trained
from fedlab.data.images import ImageData
from fedlab.data.loading import load
from fedlab.models import build

SETS = ("mnist", "fashion_mnist", "cifar10")
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "convnet": {"width": 16},
    "resnet8": {"width": 8, "norm": "batch"},
}
"""Options of each network; ``resnet8`` has BatchNorm."""

SIZES = (1, 4, 8, 16)
RULES = ("auto", "conditional", "ilrg", "counts", "yin", "llg")
FORMER = "counts on noise"
"""The former default: ``counts`` with the mean output for noise, which may drop present classes."""

BATCHES, CLAIMED = 100, 4
ENOUGH = 0.8
"""Share of batches of four whose labels ``auto`` must find on each trained network."""


def run(options: Options) -> Report:
    """Try every rule on batches of every size.

    Raises:
        BadInput: If there is no folder with the data sets.
    """
    arms = [
        (source, network, epochs, options.repeats or BATCHES, options.device)
        for source, network, epochs in product(
            data_sets(options, SETS), NETWORKS, (0, TRAINING_EPOCHS)
        )
    ]
    with get_context("spawn").Pool(options.processes) as pool:
        measured = pool.starmap(measure, arms, chunksize=1)
    lowest = min(
        fmean(figure.values)
        for figures in measured
        for figure in figures
        if figure.name.endswith(f" trained, batch {CLAIMED}, auto: exact")
    )
    return Report(
        title="How many batches have all their labels found?",
        settings={
            "victims": "training images drawn at random, one gradient",
            "public": f"{MOST_PUBLIC} test images with labels",
            "networks": "convnet of width 16, resnet8 of width 8 with BatchNorm",
            "mode": "training",
            "auto": "factorise for batches of 4 and 8",
            "training": f"{TRAINING_EPOCHS} epochs",
        },
        figures=[figure for figures in measured for figure in figures],
        claims=[
            Claim(
                f"on trained networks auto finds at least {100 * lowest:.0f} % of the batches of "
                f"{CLAIMED}, at least {100 * ENOUGH:.0f} %",
                lowest >= ENOUGH,
            )
        ],
    )


def measure(source: Path, network: str, epochs: int, batches: int, device: str) -> list[Figure]:
    """The figures of one network on one data set.

    Args:
        source: The file with the data set.
        network: Key of ``NETWORKS``.
        epochs: 0 for an untrained network.
        batches: Number of batches of each size.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
    """
    torch.set_num_threads(THREADS)
    data = load(f"npz:{source}").to(device)
    options = NETWORKS[network]
    model = build(network, shape=data.shape, classes=data.num_classes, seed=0, **options).to(device)
    name = f"{source.stem}, {network}, {'trained' if epochs else 'untrained'}"
    figures = []
    if epochs:
        model, accuracy = trained(data, model)
        figures.append(Figure(f"{name}: accuracy", "", [accuracy]))
    for size in SIZES:
        rates = []
        for rule, found in shares(model, data, size, batches).items():
            whole = [float(share == 1) for share in found]
            rates.append(f"{rule} {fmean(whole):.2f}")
            title = f"{name}, batch {size}, {rule}"
            figures.append(Figure(f"{title}: exact", "", whole))
            figures.append(Figure(f"{title}: labels found", "", found))
        console.print(f"{name}, batch {size}: {', '.join(rates)}", soft_wrap=True)
    return figures


def shares(model: nn.Module, data: ImageData, size: int, batches: int) -> dict[str, list[float]]:
    """Share of the labels that each rule finds, for each batch.

    Args:
        model: Network at the global weights.
        data: Data set on the network's device.
        size: Number of images in a batch.
        batches: Number of batches.
    """
    draws = torch.Generator().manual_seed(size)
    public = PublicImages(
        data.pixels(data.test_images[:MOST_PUBLIC]), data.test_labels[:MOST_PUBLIC]
    )
    state = {name: value.detach() for name, value in model.state_dict().items()}
    found: dict[str, list[float]] = {}
    outputs: dict[bool, Outputs] = {}
    with mode(model, training=True):
        for _ in range(batches):
            places = torch.randint(len(data.train_labels), (size,), generator=draws)
            labels = data.train_labels[places]
            gradient = batch_gradient(
                model,
                dict(model.named_parameters()),
                dict(model.named_buffers()),
                data.normalise(data.pixels(data.train_images[places])),
                labels,
            )
            known = Knowledge(
                image_shape=data.shape,
                num_classes=data.num_classes,
                mean=data.mean,
                std=data.std,
                num_images=size,
            )
            payload = Payload("gradient", gradient, num_examples=size, steps=1)
            problem = Problem.of(model, state, payload, known)
            if not outputs:  # the same for all batches of this size
                informed = replace(problem, knowledge=replace(known, public=public))
                outputs = {True: informed.outputs(draws), False: problem.outputs(draws)}
            layer = problem.last_layer(outputs[True])
            former = replace(problem.last_layer(outputs[False]), certain=False)
            for rule in RULES:
                if rule == "yin" and size > data.num_classes:
                    continue
                mean = outputs[True].mean
                inferred, _ = apply_rule(rule, layer, size, mean)
                found.setdefault(rule, []).append(_overlap(inferred, labels))
            inferred, _ = apply_rule("counts", former, size, outputs[False].mean)
            found.setdefault(FORMER, []).append(_overlap(inferred, labels))
    return found


def _overlap(found: Tensor, labels: Tensor) -> float:
    """Share of the labels of a batch that are among those found, with their multiplicity."""
    classes = int(max(found.max(), labels.max())) + 1
    counts = [torch.bincount(each.cpu(), minlength=classes) for each in (found, labels)]
    return int(torch.minimum(*counts).sum()) / len(labels)
