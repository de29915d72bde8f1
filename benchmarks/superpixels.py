"""The Potts problem of photographs on the graph of pixels and on graphs of super-pixels."""

import ctypes
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from scipy.ndimage import label
from sklearn.datasets import load_sample_images
from torch import Tensor

from attacks.graphs.merging import merge_regions
from attacks.graphs.potts import segment
from attacks.graphs.regions import region_graph
from attacks.graphs.superpixels import colours_of, slic
from benchmarks.fresh import Fresh, fresh, peak_memory
from benchmarks.report import THREADS, Claim, Figure, console

PHOTOGRAPHS = ("china", "flower")
"""Photographs that ship with scikit-learn, 427 x 640 pixels."""

COUNTS = (500, 2_000, 8_000)
"""Numbers of super-pixels."""

COLOURS = 8
SMOOTHNESS = 0.5
"""Cost of a border of one pixel side: some tens of regions remain."""

COMPACTNESS = 1.0
"""Compactness of SLIC, the best of four for this smoothness on crops of both photographs."""

MERGED = SMOOTHNESS / 10
"""The same while regions merge: with all of it, large regions swallow all that touches them."""

GAP, ITERATIONS = 5e-3, 1_500
CLOSE, LESS = 1.05, 5.0
"""Most energy over that of the pixels, and least time and memory of the pixels over those of
super-pixels, that the paper leads one to expect at 2,000 and at 8,000."""

PIXELS = "pixels"
ARMS: Mapping[str, tuple[str, int]] = {
    PIXELS: (PIXELS, 0),
    **{f"SLIC {count:,}": ("slic", count) for count in COUNTS},
    **{f"merging {count:,}": ("merging", count) for count in COUNTS},
}
"""Kind and number of regions by the name of the arm."""


@dataclass(frozen=True)
class Solved:
    """One photograph segmented on one graph.

    Attributes:
        nodes: Number of regions of the graph.
        edges: Number of its edges.
        energy: Energy of the rounded labels on the grid of pixels.
        bound: Lower bound of the energy of all segmentations of this graph.
        pieces: Number of connected pieces of the segmentation.
        iterations: Number of iterations of the solver.
        cutting: CPU time to make regions and graph, in seconds.
        solving: CPU time to segment the graph, in seconds.
        memory: Peak memory beyond that of the process with the photograph, in MiB.
        solver_memory: Peak memory beyond that of the process with the graph, in MiB.
    """

    nodes: int
    edges: int
    energy: float
    bound: float
    pieces: int
    iterations: int
    cutting: float
    solving: float
    memory: float
    solver_memory: float

    @property
    def seconds(self) -> float:
        """CPU time of all."""
        return self.cutting + self.solving


def solve(photograph: int, kind: str, count: int) -> Solved:
    """Segment a photograph.

    Args:
        photograph: Its place in ``PHOTOGRAPHS``.
        kind: ``pixels``, ``slic`` or ``merging``.
        count: Number of super-pixels.
    """
    torch.set_num_threads(THREADS)
    image = torch.tensor(load_sample_images().images[photograph]).permute(2, 0, 1).float() / 255
    colours = colours_of(image, COLOURS)
    loaded, started = _forgotten_peak(), time.process_time()
    regions = _cut(image, kind, count)
    graph = region_graph(regions)
    pixels, places = image.flatten(1).T, regions.flatten()
    costs = torch.zeros(len(graph.areas), 1, COLOURS)
    for place, colour in enumerate(colours):
        costs[:, 0, place].index_add_(0, places, (pixels - colour).square().sum(1))
    cut, cutting_peak, before = time.process_time(), peak_memory(), _forgotten_peak()
    found = segment(costs, graph, smoothness=SMOOTHNESS, gap=GAP, iterations=ITERATIONS)
    done, peak = time.process_time(), peak_memory()
    labels = found.labels[regions].squeeze(2)
    return Solved(
        nodes=len(graph.areas),
        edges=len(graph.first),
        energy=_energy(image, colours, labels),
        bound=float(found.bound),
        pieces=sum(label(labels == place)[1] for place in range(COLOURS)),
        iterations=found.iterations,
        cutting=cut - started,
        solving=done - cut,
        memory=max(peak, cutting_peak) - loaded,
        solver_memory=peak - before,
    )


def figures(repeats: int) -> tuple[list[Figure], list[Claim]]:
    """Segment both photographs on all graphs, each in a process of its own.

    Args:
        repeats: Number of times; energies are the same at each.
    """
    found: dict[str, dict[str, list[Solved]]] = {}
    for place, name in enumerate(PHOTOGRAPHS):
        runs: dict[str, list[Solved]] = {arm: [] for arm in ARMS}
        for _ in range(repeats):
            for arm, (kind, count) in ARMS.items():
                one: Fresh[Solved] = fresh(solve, place, kind, count)
                runs[arm].append(one.result)
                console.print(f"{name}, {arm}: {one.result}", highlight=False, soft_wrap=True)
        found[name] = runs
    listed = [each for name, runs in found.items() for each in _figures(name, runs)]
    claimed = [arm for arm, (_, count) in ARMS.items() if count > COUNTS[0]]
    return listed, [claim for arm in claimed for claim in _claims(arm, found)]


def _forgotten_peak() -> float:
    """Give back unused memory, make the rest this process's peak, and return it in MiB (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


def _cut(image: Tensor, kind: str, count: int) -> Tensor:
    if kind == "slic":
        return slic(image, count, compactness=COMPACTNESS)
    if kind == "merging":
        return merge_regions(image, count, smoothness=MERGED)
    return torch.arange(image[0].numel()).view(image.shape[1:])


def _energy(image: Tensor, colours: Tensor, labels: Tensor) -> float:
    """Energy of a label map on the grid of pixels, written out."""
    data = (image.movedim(0, 2) - colours[labels]).square().sum(dtype=torch.float64)
    borders = (labels[1:] != labels[:-1]).sum() + (labels[:, 1:] != labels[:, :-1]).sum()
    return float(data + SMOOTHNESS * borders)


def _ratio(runs: Mapping[str, Sequence[Solved]], arm: str, value: str) -> float:
    """Median of a value on pixels over that on super-pixels."""
    of = {name: median(getattr(one, value) for one in runs[name]) for name in (PIXELS, arm)}
    return of[PIXELS] / max(of[arm], 1e-9)


def _figures(name: str, runs: Mapping[str, Sequence[Solved]]) -> Iterator[Figure]:
    for arm, them in runs.items():
        title, one = f"{name}, {arm}", them[0]
        yield Figure(f"{title}: nodes", "", [one.nodes])
        yield Figure(f"{title}: edges", "", [one.edges])
        yield Figure(f"{title}: energy on the pixel grid", "", [one.energy])
        yield Figure(f"{title}: dual bound", "", [one.bound])
        yield Figure(f"{title}: gap", "%", [100 * (one.energy - one.bound) / one.energy])
        yield Figure(f"{title}: connected pieces", "", [one.pieces])
        yield Figure(f"{title}: iterations", "", [one.iterations])
        yield Figure(f"{title}: CPU time of the graph", "s", [each.cutting for each in them])
        yield Figure(f"{title}: CPU time of the solver", "s", [each.solving for each in them])
        yield Figure(f"{title}: peak memory", "MiB", [each.memory for each in them])
        yield Figure(f"{title}: peak memory of the solver", "MiB", [e.solver_memory for e in them])
        if arm != PIXELS:
            yield Figure(f"{title}: energy over pixels", "", [1 / _ratio(runs, arm, "energy")])
            for what, value in (
                ("CPU time", "seconds"),
                ("peak memory", "memory"),
                ("peak memory of the solver", "solver_memory"),
            ):
                yield Figure(f"{title}: {what} of pixels over it", "", [_ratio(runs, arm, value)])


def _claims(arm: str, found: Mapping[str, Mapping[str, Sequence[Solved]]]) -> list[Claim]:
    """Whether super-pixels keep the energy and save time and memory, on each photograph."""
    energy = max(1 / _ratio(runs, arm, "energy") for runs in found.values())
    return [
        Claim.at_most(f"{arm}: energy over that of pixels", energy, CLOSE),
        *(
            Claim.at_most(
                f"{arm}: {what} over that of pixels",
                max(1 / _ratio(runs, arm, value) for runs in found.values()),
                1 / LESS,
            )
            for what, value in (("CPU time", "seconds"), ("peak memory", "memory"))
        ),
    ]
