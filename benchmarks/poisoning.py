"""Success of poisons, their cost, and what stops them.

Crafted poisons on CIFAR-10 (MetaPoison on Fashion-MNIST), attacks on a federation against its
aggregation rules and evasion on Fashion-MNIST, and the time of a crafting step beside the
Adversarial Robustness Toolbox. Finished runs are kept, so an interrupted run can be continued.
"""

from pathlib import Path

from benchmarks.crafting import crafting
from benchmarks.evasion import evasion
from benchmarks.options import Options
from benchmarks.poisons import STUDIES, measure_poisons
from benchmarks.report import Report
from benchmarks.rules import CLIENTS, IMAGES, MALICIOUS, ROUNDS, rules
from fedlab.core.errors import BadInput
from fedlab.data.loading import load

FILES = ("cifar10.npz", "fashion_mnist.npz")

KEPT = Path("runs") / "benchmarks" / "poisoning"
"""Finished runs; empty it to measure anew."""

SEEDS = 2
"""Of the rules' table."""
VICTIMS = 3
"""Seeds of evasion."""

HOW = (
    "name a folder with cifar10.npz and fashion_mnist.npz with --data, made by `python "
    "../shared/data/make_npz.py cifar10 FOLDER/cifar10.npz --train 10000 --test 2000` and "
    "`... fashion_mnist FOLDER/fashion_mnist.npz --train 4000 --test 2000`"
)


def image_folder(options: Options) -> Path:
    """The folder with the files of the studies.

    Raises:
        BadInput: If one is missing; the message says how to make it.
    """
    folder = options.data
    if folder is None or not all((folder / name).is_file() for name in FILES):
        raise BadInput(HOW)
    return folder


def run(options: Options) -> Report:
    """Run all studies.

    Raises:
        BadInput: If there are no images.
        RunFailed: If a run cannot go on.
    """
    folder = image_folder(options)
    coloured, grey = (folder / name for name in FILES)
    how = {"device": options.device, "processes": options.processes}
    parts = [
        crafting(load(f"npz:{coloured}")),
        measure_poisons(folder, KEPT, trials=options.repeats, **how),
        rules(grey, KEPT, range(options.repeats or SEEDS), **how),
        evasion(load(f"npz:{grey}"), range(options.repeats or VICTIMS)),
    ]
    return Report(
        title="Which poisons work, and what stops them?",
        settings={
            "crafted": "; ".join(map(str, STUDIES)),
            "rules": f"{IMAGES:,} images of Fashion-MNIST, {CLIENTS} clients, {MALICIOUS} of them "
            f"malicious, convnet of width 16, {ROUNDS} rounds, {SEEDS} seeds",
        },
        figures=[figure for figures, _ in parts for figure in figures],
        claims=[claim for _, claims in parts for claim in claims],
    )
