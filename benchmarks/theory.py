"""What theory says of training, tested in a federation, and what each does to leakage.

Findings of Goldblum et al., "Truth or Backpropaganda?" (arXiv 1910.00359): a larger norm of the
weights, starts and minima that training does not leave, the tangent kernel, and the rank of
convolutions.
"""

from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter

from benchmarks.kept import Kept, stamp
from benchmarks.kernels import kernels
from benchmarks.minima import minima
from benchmarks.norm_biases import norm_biases
from benchmarks.options import Options
from benchmarks.ranks import ranks
from benchmarks.report import THREADS, Report
from benchmarks.starts import starts
from benchmarks.theory_runs import BATCH, CLIENTS, EPOCHS, IMAGES, LR, ROUNDS, Bench, Measured
from fedlab.core.devices import prepare
from fedlab.core.errors import BadInput

SEEDS = 3

HOW = (
    "name a folder with fashion_mnist.npz, and cifar10.npz for the norm bias on it too, with "
    "--data, made by `python ../shared/data/make_npz.py fashion_mnist FOLDER/fashion_mnist.npz "
    "--train 4000 --test 2000`"
)


def run(options: Options) -> Report:
    """Run all parts.

    Raises:
        BadInput: If there are no images.
        RunFailed: If a run cannot go on.
    """
    folder = options.data or Path()
    grey, coloured = (folder / f"{name}.npz" for name in ("fashion_mnist", "cifar10"))
    if options.data is None or not grey.is_file():
        raise BadInput(HOW)
    prepare(THREADS)
    seeds = range(options.repeats or SEEDS)
    here = Path(__file__).parent
    kept = Kept(options.cells, stamp(grey, here / "theory_runs.py"), TypeAdapter(Measured))
    bench = Bench(grey, seeds, options.device, kept)
    checked = [norm_biases(bench), starts(bench), minima(bench)]
    if coloured.is_file():
        checked.append(norm_biases(replace(bench, source=coloured)))
    return Report(
        title="What do norm, start, rank and kernel do to accuracy and leakage?",
        settings={
            "images": f"{IMAGES:,}, {CLIENTS} clients",
            "training": f"{ROUNDS} rounds, {EPOCHS} epochs a round, batch {BATCH}, learning rate "
            f"{LR}",
            "attack": "fast, 150 iterations, labels known, gradients of four images of two clients "
            "in the last round; of starts 300 iterations, labels inferred, round 1",
            "seeds": len(seeds),
        },
        figures=[*(f for figures, _ in checked for f in figures), *ranks(bench), *kernels(bench)],
        claims=[claim for _, claims in checked for claim in claims],
    )
