"""Images as graphs of super-pixels: what it costs, whether outlines leak, and a prior for attacks.

After Geiping et al., "Fast Convex Relaxations using Graph Discretizations" (arXiv 2004.11075).
"""

from multiprocessing import get_context
from pathlib import Path

from benchmarks import graph_prior, outlines, superpixels
from benchmarks.options import Options
from benchmarks.report import Report
from fedlab.core.errors import BadInput


def run(options: Options) -> Report:
    """Measure all three.

    Raises:
        BadInput: If there is no file with X-rays.
    """
    file = xrays(options)
    solved, claims = superpixels.figures(options.repeats or 1)
    with get_context("spawn").Pool(options.processes) as pool:
        arms = [(arm, file) for arm in outlines.ARMS]
        shown = pool.starmap_async(outlines.measure, arms, chunksize=1)
        rebuilt = pool.map_async(graph_prior.measure, list(graph_prior.DEFENSES), chunksize=1)
        further = [figure for part in (*shown.get(), *rebuilt.get()) for figure in part]
    return Report(
        title="What do super-pixels save, do outlines leak, and is a graph a better prior?",
        settings={
            "photographs": f"{', '.join(superpixels.PHOTOGRAPHS)} of scikit-learn, 427x640",
            "labels": f"{superpixels.COLOURS} colours of the photograph",
            "smoothness": superpixels.SMOOTHNESS,
            "super-pixels": f"SLIC of compactness {superpixels.COMPACTNESS:g}, chosen on crops; "
            f"merging with a smoothness of {superpixels.MERGED:g}",
            "X-rays": f"{outlines.IMAGES} of PneumoniaMNIST, 28x28, one of each client",
            "attack on X-rays": f"fast, {outlines.ITERATIONS} iterations, labels known",
            "prior": f"{graph_prior.IMAGES} crops of the photographs, {graph_prior.SIDE}x"
            f"{graph_prior.SIDE}, fast, {graph_prior.ITERATIONS} iterations, labels known",
            "weights of the prior": ", ".join(f"{each:g}" for each in graph_prior.WEIGHTS),
            "network": "convnet of width 16, untrained",
        },
        figures=[*solved, *further],
        claims=claims,
    )


def xrays(options: Options) -> Path:
    """The file with X-rays.

    Raises:
        BadInput: If there is none.
    """
    if options.data is None or not options.data.is_file():
        raise BadInput("no images: name an .npz of chest X-rays, pneumoniamnist.npz, with --data")
    return options.data
