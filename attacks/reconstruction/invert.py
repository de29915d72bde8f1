"""Rebuild a client's images from its gradient or weight update.

Geiping et al., "Inverting Gradients: How easy is it to break privacy in federated
learning?" (NeurIPS 2020, arXiv 2003.14053).
"""

import copy
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from attacks.knowledge import Knowledge
from attacks.payload import Payload
from attacks.reconstruction.analytic import TOLERANCE, first_linear, invert_first_layer
from attacks.reconstruction.consensus import consensus
from attacks.reconstruction.initialisation import STARTS
from attacks.reconstruction.labels import infer_labels, joint_start, snap_mixture
from attacks.reconstruction.modes import mode
from attacks.reconstruction.objectives import OBJECTIVES
from attacks.reconstruction.presets import Attack
from attacks.reconstruction.problem import Problem
from attacks.reconstruction.result import Reconstruction
from attacks.reconstruction.search import Found, Progress, Search, box, normalised, pixels

LOOKS = 1.0
"""Seconds between two looks at a search by whoever watches it; there is one at its end as well."""

MOST_TOLERANCE = 2e-5
"""Of rows in analytic inversion; with more, rows of different images were taken for one."""

Watch = Callable[[Progress], None]
"""Called by the clock, every ``LOOKS`` seconds, unless it is a ``ChoosyWatch``."""


@runtime_checkable
class ChoosyWatch(Protocol):
    """A watch that is called after iterations of its own choice instead, and at the end."""

    def wants(self, iteration: int) -> bool:
        """Whether to look after so many steps of a restart, counted from 1."""
        ...

    def __call__(self, progress: Progress) -> None:
        """Look at a restart."""
        ...


@dataclass(frozen=True)
class _Pace:
    """How far an attack is, by its iterations or, with a time budget, by the clock."""

    iterations: int
    seconds: float | None
    started: float

    def __call__(self, done: int) -> float:
        """The iteration that the schedule should be at after so many were done."""
        if self.seconds is None:
            return done
        spent = (time.perf_counter() - self.started) / self.seconds
        return max(float(done), spent * self.iterations)

    def share(self, parts: int) -> "_Pace":
        """That of one of so many parts, beginning now, of equal time out of what is left."""
        if self.seconds is None:
            return self
        now = time.perf_counter()
        # Never 0, by which it could not be divided; the first step is taken in any case.
        left = max(self.seconds - (now - self.started), 1e-3)
        return replace(self, seconds=left / parts, started=now)


def invert(
    model: nn.Module,
    global_state: Mapping[str, Tensor],
    payload: Payload,
    knowledge: Knowledge,
    attack: Attack,
    *,
    generator: torch.Generator,
    start: Tensor | None = None,
    seconds: float | None = None,
    workers: int = 1,
    recorded: bool = True,
    watch: Watch | None = None,
) -> Reconstruction:
    """Rebuild the images behind a payload.

    Minimises match * objective(simulated, captured) + priors(x) over images in the pixel box
    (Geiping et al. 2020, eq. 4; section 6 for weight updates).

    Args:
        model: The architecture, on the device to compute on; left as it is found.
        global_state: Parameters and buffers that the client started from, by name.
        payload: What it sent.
        knowledge: What else is assumed to be known.
        attack: Settings.
        generator: CPU generator of starts, noise and soft labels.
        start: float ``[n, channels, height, width]``, pixels in [0, 1], to begin with instead of
            the start that the attack names; restarts after the first add noise to it.
        seconds: Time budget: the schedule is squeezed so that it ends by then. The result then
            depends on the machine.
        workers: Restarts that run at the same time, each in a thread of its own or, on a GPU, on a
            CUDA stream of its own.
        recorded: On a GPU: record a step once and replay it as a CUDA graph, which gives the same
            images sooner. A network that cannot be recorded is attacked without.
        watch: Called with the progress of a restart: now and then, or after iterations of its
            choice (``ChoosyWatch``), and at its end.

    Raises:
        ValueError: If the payload cannot be attacked: zero or not finite, weights without
            ``knowledge.local``, tensors that the network does not have, or a network that the
            attack does not fit.

    Returns:
        The images, in [0, 1], and how the attack went.
    """
    started = time.perf_counter()
    problem = Problem.of(model, global_state, payload, knowledge)
    with mode(model, training=knowledge.training_mode):
        if attack.method == "analytic":
            found = _read_off(problem, attack, generator)
        else:
            pace = _Pace(attack.iterations, seconds, started)
            looks = None if watch is None else _Looks(watch, threading.Lock())
            with ExitStack() as hold:
                searches = [
                    hold.enter_context(search)
                    for search in _searches(problem, attack, generator, start, workers, recorded)
                ]
                found = _best(searches, attack, pace, workers, looks)
    return Reconstruction(
        images=pixels(problem, found.images),
        labels=found.labels,
        labels_known=knowledge.labels is not None,
        cost=found.cost,
        costs=found.costs,
        restart=found.restart,
        seconds=time.perf_counter() - started,
        attack=attack,
    )


class _Looks:
    """Looks of a watch at some searches, at its iterations or by the clock."""

    def __init__(self, watch: Watch, lock: threading.Lock) -> None:
        self._watch = watch
        self._wants = watch.wants if isinstance(watch, ChoosyWatch) else None
        # Looks at restarts that run side by side would meet in one file.
        self._lock = lock
        self._looked = time.perf_counter()
        self._seen: dict[int, int] = {}

    def begin(self) -> "_Looks":
        """The same watch at other searches, with a clock that starts now."""
        return _Looks(self._watch, self._lock)

    def after(self, done: int, *searches: Search) -> None:
        """Look if it is time to, after so many steps of each search."""
        due = (
            time.perf_counter() - self._looked > LOOKS if self._wants is None else self._wants(done)
        )
        if due:
            self.at(*searches)
            self._looked = time.perf_counter()

    def at(self, *searches: Search) -> None:
        """Look at each that has moved since it was looked at last."""
        for search in searches:
            progress = search.progress()
            if self._seen.get(progress.restart) == progress.iteration:
                continue
            self._seen[progress.restart] = progress.iteration
            with self._lock:
                self._watch(progress)


def _searches(
    problem: Problem,
    attack: Attack,
    generator: torch.Generator,
    start: Tensor | None,
    workers: int,
    recorded: bool,
) -> Iterator[Search]:
    """One search for each restart; all that is drawn is drawn here, in their order."""
    known = problem.knowledge
    shape = (known.num_images, *known.image_shape)
    joint = known.labels is None and attack.labels == "joint"
    labels = known.labels
    if labels is None and not joint:
        labels = _inferred(problem, attack.labels, generator)
    for restart in range(attack.restarts):
        first = STARTS[attack.start](shape, generator)
        if start is not None:
            if start.shape != shape:
                raise ValueError(f"the start has shape {tuple(start.shape)} instead of {shape}")
            noise = STARTS["normal"](shape, generator).to(problem.device)
            first = normalised(problem, start) + (0.1 if restart else 0.0) * noise
        logits = joint_start(known.num_images, known.num_classes, generator) if joint else None
        # Threads would get in each other's way in one network: its weights are swapped in and out.
        own = copy.deepcopy(problem.model) if workers > 1 and restart else problem.model
        chosen = labels if logits is None else logits
        if chosen is None:
            raise ValueError("there are no labels to begin with")
        yield Search(
            replace(problem, model=own),
            attack,
            start=first.to(problem.device),
            labels=chosen.to(problem.device),
            joint=joint,
            generator=torch.Generator().manual_seed(_drawn(generator)),
            restart=restart,
            recorded=recorded,
        )


def _best(
    searches: list[Search], attack: Attack, pace: _Pace, workers: int, looks: _Looks | None
) -> Found:
    """The restart whose images match best, priors aside."""
    on_gpu = searches[0].images.device.type == "cuda"
    if attack.group and len(searches) > 1:
        _run_together(searches, attack, pace, looks)
    elif workers > 1 and on_gpu:
        groups = [searches[first : first + workers] for first in range(0, len(searches), workers)]
        for place, group in enumerate(groups):
            _run_together(group, attack, pace.share(len(groups) - place), looks)
    elif workers > 1 and len(searches) > 1:
        _run_side_by_side(searches, attack, pace, workers, looks)
    else:
        for place, search in enumerate(searches):
            _run(search, attack, pace.share(len(searches) - place), looks)
    found = [search.result() for search in searches]
    return min(found, key=lambda one: math.inf if math.isnan(one.cost) else one.cost)


def _run(search: Search, attack: Attack, pace: _Pace, looks: _Looks | None) -> None:
    looks = looks and looks.begin()
    for done in range(attack.iterations):
        iteration = pace(done)
        if done and iteration >= attack.iterations:
            break
        search.advance(min(iteration, attack.iterations - 1))
        if looks is not None:
            looks.after(done + 1, search)
        if search.converged():
            break
    if looks is not None:
        looks.at(search)


def _run_side_by_side(
    searches: list[Search], attack: Attack, pace: _Pace, workers: int, looks: _Looks | None
) -> None:
    """Each in a thread of its own, so many at the same time, and one thread of PyTorch for each."""
    seconds = pace.share(-(-len(searches) // workers)).seconds

    def run(search: Search) -> None:
        _run(search, attack, replace(pace, seconds=seconds, started=time.perf_counter()), looks)

    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for future in [pool.submit(run, search) for search in searches]:
                future.result()
    finally:
        torch.set_num_threads(threads)


def _run_together(
    searches: list[Search], attack: Attack, pace: _Pace, looks: _Looks | None
) -> None:
    """Step by step in turns: for the prior on the group, or for a GPU, which does not wait."""
    grouped = attack.group and len(searches) > 1
    looks = looks and looks.begin()
    for done in range(attack.iterations):
        iteration = pace(done)
        if done and iteration >= attack.iterations:
            break
        centre = consensus(torch.stack([one.images for one in searches])) if grouped else None
        for search in searches:
            search.advance(min(iteration, attack.iterations - 1), centre)
        if looks is not None:
            looks.after(done + 1, *searches)
        if all(search.converged() for search in searches):
            break
    if looks is not None:
        looks.at(*searches)


def _inferred(problem: Problem, rule: str, generator: torch.Generator) -> Tensor:
    known = problem.knowledge
    labels = infer_labels(
        problem.mean_gradient(),
        num_images=known.num_images,
        probabilities=problem.expected_output(generator),
        rule=rule,
    )
    if rule == "mixed":
        # What every image gets is the mean of the batch's labels.
        labels = snap_mixture(labels, k=known.label_parts)
    return labels


def _read_off(problem: Problem, attack: Attack, generator: torch.Generator) -> Found:
    """The input of a fully connected first layer, without any optimisation."""
    known = problem.knowledge
    low, high = box(problem)
    recovered = invert_first_layer(
        problem.model,
        problem.mean_gradient(),
        image_shape=known.image_shape,
        num_images=known.num_images,
        low=low,
        high=high,
        tolerance=_tolerance(problem),
    )
    labels = known.labels
    if labels is None:
        labels = _inferred(problem, "auto", generator)
    simulated = problem.simulate(recovered.inputs, labels, create_graph=False)
    cost = OBJECTIVES[attack.objective](problem.target)(simulated)
    return Found(recovered.inputs, labels, float(cost), torch.zeros(0), 0)


def _tolerance(problem: Problem) -> float:
    """How far rows may differ that came from the same image: more where weights were rounded."""
    names = first_linear(problem.model, problem.target)
    rounding = 0.0 if names is None else problem.rounding(names[0])
    return max(TOLERANCE, min(rounding, MOST_TOLERANCE))


def _drawn(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator))
