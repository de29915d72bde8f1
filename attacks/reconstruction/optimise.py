"""Run the restarts of an attack that optimises images: one by one, in turns, or in threads."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attacks.reconstruction.components import INITIALISATIONS
from attacks.reconstruction.consensus import consensus
from attacks.reconstruction.initialisation import normal
from attacks.reconstruction.labels import joint_start
from attacks.reconstruction.presets import JOINT, AttackSettings
from attacks.reconstruction.problem import Problem
from attacks.reconstruction.search import Search, SearchResult
from attacks.reconstruction.watch import Watch, WatchCalls

RESTART_NOISE = 0.1
"""Standard deviation of the noise that restarts after the first add to given initial images."""


@dataclass(frozen=True)
class _Pace:
    """Progress of an attack by its iterations or, with a time budget, by the clock."""

    iterations: int
    seconds: float | None
    started: float

    def __call__(self, done: int) -> float:
        """The iteration of the schedule after this many steps."""
        if self.seconds is None:
            return done
        spent = (time.perf_counter() - self.started) / self.seconds
        return max(float(done), spent * self.iterations)

    def share(self, parts: int) -> "_Pace":
        """The pace of the first of several parts that divide the time left equally."""
        if self.seconds is None:
            return self
        now = time.perf_counter()
        # Above 0, since it is divided by; the first step is taken in any case.
        left = max(self.seconds - (now - self.started), 1e-3)
        return replace(self, seconds=left / parts, started=now)


@dataclass(frozen=True)
class _Run:
    """Settings and limits that all restarts of an attack share."""

    attack: AttackSettings
    pace: _Pace
    workers: int
    calls: WatchCalls | None


def search_images(
    problem: Problem,
    attack: AttackSettings,
    *,
    generator: torch.Generator,
    initial_images: Tensor | None,
    seconds: float | None,
    workers: int,
    cuda_graph: bool,
    watch: Watch | None,
) -> SearchResult:
    """Run all restarts and return the one with the lowest matching cost.

    Args:
        problem: Captured payload, network and knowledge.
        attack: Settings of the attack.
        generator: CPU generator of all random numbers.
        initial_images: float ``[n, channels, height, width]``, pixels in [0, 1]; ``None`` draws
            them from the initialisation of the settings.
        seconds: Time budget in seconds; ``None`` for none.
        workers: Number of restarts that run at the same time.
        cuda_graph: Replay each step as a CUDA graph on a CUDA device.
        watch: Callback that receives the progress.

    Raises:
        ValueError: If the initial images or the priors do not fit the problem.
    """
    started = time.perf_counter()
    calls = None if watch is None else WatchCalls(watch)
    run = _Run(attack, _Pace(attack.iterations, seconds, started), workers, calls)
    with ExitStack() as stack:
        searches = [
            stack.enter_context(search)
            for search in _searches(problem, attack, generator, initial_images, workers, cuda_graph)
        ]
        return _best(searches, run)


def _searches(
    problem: Problem,
    attack: AttackSettings,
    generator: torch.Generator,
    initial_images: Tensor | None,
    workers: int,
    cuda_graph: bool,
) -> Iterator[Search]:
    """One search for each restart; all random numbers are drawn here, in the order of restarts."""
    known = problem.knowledge
    shape = (known.num_images, *known.image_shape)
    joint = known.labels is None and attack.label_rule == JOINT
    labels = known.labels
    if labels is None and not joint:
        labels = problem.infer_labels(attack.label_rule, generator)
    for restart in range(attack.restarts):
        first = INITIALISATIONS.resolve(attack.initialisation)(shape, generator)
        if initial_images is not None:
            if initial_images.shape != shape:
                raise ValueError(
                    f"the initial images have shape {tuple(initial_images.shape)} instead of "
                    f"{shape}"
                )
            noise = normal(shape, generator).to(problem.device)
            scale = RESTART_NOISE if restart else 0.0
            first = problem.normalise(initial_images) + scale * noise
        logits = joint_start(known.num_images, known.num_classes, generator) if joint else None
        # Each thread needs its own network, because the parameters are swapped in and out.
        own = copy.deepcopy(problem.model) if workers > 1 and restart else problem.model
        chosen = labels if logits is None else logits
        if chosen is None:
            raise ValueError("the labels are unknown and no rule infers them")
        yield Search(
            problem.on(own),
            attack,
            first=first.to(problem.device),
            labels=chosen.to(problem.device),
            joint=joint,
            generator=torch.Generator().manual_seed(_draw_seed(generator)),
            restart=restart,
            cuda_graph=cuda_graph,
        )


def _best(searches: list[Search], run: _Run) -> SearchResult:
    """Run all searches and return the result with the lowest matching cost."""
    workers = run.workers
    on_gpu = searches[0].images.device.type == "cuda"
    if run.attack.group and len(searches) > 1:
        _run_in_turns(searches, run, run.pace)
    elif workers > 1 and on_gpu:
        groups = [searches[first : first + workers] for first in range(0, len(searches), workers)]
        for place, group in enumerate(groups):
            _run_in_turns(group, run, run.pace.share(len(groups) - place))
    elif workers > 1 and len(searches) > 1:
        _run_in_threads(searches, run)
    else:
        for place, search in enumerate(searches):
            _run_one(search, run, run.pace.share(len(searches) - place))
    found = [search.result() for search in searches]
    return min(found, key=lambda one: math.inf if math.isnan(one.cost) else one.cost)


def _run_one(search: Search, run: _Run, pace: _Pace) -> None:
    _advance([search], run, pace, lambda: None)


def _run_in_turns(searches: list[Search], run: _Run, pace: _Pace) -> None:
    """Step all searches in turns: for the group prior, or to keep a GPU busy."""
    grouped = run.attack.group and len(searches) > 1

    def centre() -> Tensor | None:
        return consensus(torch.stack([one.images for one in searches])) if grouped else None

    _advance(searches, run, pace, centre)


def _advance(
    searches: list[Search], run: _Run, pace: _Pace, centre: Callable[[], Tensor | None]
) -> None:
    """Step searches until their last iteration, the end of the time, or convergence of all."""
    calls = run.calls and run.calls.restarted()
    iterations = run.attack.iterations
    for done in range(iterations):
        iteration = pace(done)
        if done and iteration >= iterations:
            break
        mean = centre()
        for search in searches:
            search.advance(min(iteration, iterations - 1), mean)
        if calls is not None:
            calls.after_step(done + 1, *searches)
        if all(search.converged() for search in searches):
            break
    if calls is not None:
        calls.report(*searches)


def _run_in_threads(searches: list[Search], run: _Run) -> None:
    """Run each search in a thread with one PyTorch thread, ``workers`` of them at a time."""
    seconds = run.pace.share(-(-len(searches) // run.workers)).seconds

    def run_search(search: Search) -> None:
        _run_one(search, run, replace(run.pace, seconds=seconds, started=time.perf_counter()))

    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(
            run.workers, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            for future in [pool.submit(run_search, search) for search in searches]:
                future.result()
    finally:
        torch.set_num_threads(threads)


def _draw_seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator))
