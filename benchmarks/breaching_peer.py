"""The attacker of the ``breaching`` package (0.1.2), given our network, weights and payload.

Nothing here is a reimplementation: the attacker gets breaching's own Inverting Gradients
configuration and runs its own loop (github.com/JonasGeiping/breaching), as the baseline of ours.
"""

import json
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

# The configuration folder is a package inside breaching, so no file and no network is asked for.
CONFIGURATIONS, PRESET = "breaching.config.attack", "invertinggradients"


@dataclass(frozen=True)
class LocalSteps:
    """Plain local SGD of a client, which breaching's attacker knows in full.

    Attributes:
        lr: Learning rate.
        steps: Number of steps; they start again at the first image when all are used.
        images_per_step: Size of each batch, taken in the order of the labels.
    """

    lr: float
    steps: int
    images_per_step: int


class Mark(NamedTuple):
    """The answer of breaching if it had been stopped at one iteration.

    Attributes:
        iteration: Number of iterations done.
        seconds: Wall time since its loop started.
        images: Normalised images ``[n, channels, height, width]``.
    """

    iteration: int
    seconds: float
    images: Tensor


@dataclass(frozen=True)
class PeerResult:
    """Breaching's answer and its cost.

    Attributes:
        images: float32 ``[n, channels, height, width]`` in [0, 1], in the order of the labels.
        seconds: Wall time of its loop, without preparation and the final score; of all restarts
            together.
        processor_seconds: Processor time of this process in the same loop.
        cost: Its own cost of the images: one minus the cosine of the payloads.
        iterations: Iterations done over all restarts. There are fewer than asked for where its
            objective was no longer finite, or where it was interrupted.
        trace: Answers of the first restart at the marks that it reached, in order.
    """

    images: Tensor
    cost: float
    seconds: float
    processor_seconds: float
    iterations: int
    trace: tuple[Mark, ...]


def invert_with_breaching(
    model: nn.Module,
    payload: Sequence[Tensor],
    *,
    labels: Tensor,
    shape: tuple[int, int, int],
    mean: Sequence[float],
    std: Sequence[float],
    iterations: int,
    tv: float,
    step_size: float = 0.1,
    sign: str | None = "hard",
    schedule: str | None = "step-lr",
    local: LocalSteps | None = None,
    marks: Sequence[int] = (),
    seed: int = 0,
    overrides: Mapping[str, object] | None = None,
) -> PeerResult:
    """Rebuild images with breaching's own attacker.

    Its ``invertinggradients`` settings hold where nothing else is said here: cosine similarity,
    anisotropic total variation, Adam in the box of valid pixels, one start from normal noise,
    float32. Networks are in evaluation mode with the buffers they have. Breaching keeps the
    iterate that followed its lowest objective (not the last one), and so does the trace.

    Args:
        model: Network at the global weights; it is copied and never changed.
        payload: Tensors in the order of the model's parameters: the gradient, or the client's
            weights after its local steps where ``local`` is given.
        labels: Class of each image, int64 ``[n]``.
        shape: Channels, height and width of an image.
        mean: Mean of the normalisation for each channel, on pixels in [0, 1].
        std: Standard deviation of the normalisation for each channel.
        iterations: Iterations of one start, to which its step decay is scaled.
        tv: Weight of total variation.
        step_size: Step size of Adam.
        sign: ``"hard"``, ``"soft"`` or None: how the gradient is signed before Adam's step.
        schedule: Step schedule: ``"step-lr"``, ``"cosine-decay"``, ``"linear"`` or None.
        local: The client's local SGD; None for a gradient.
        marks: Iterations after which to note the answer, each from 0 to ``iterations``.
        seed: Seed of the start. PyTorch's global generators are left as they were.
        overrides: Further settings of breaching by their dotted names, such as
            ``{"optim.langevin_noise": 0.01}``; a name new to its preset begins with ``+``.

    Raises:
        ValueError: If the payload does not fit the parameters, the labels are not one class per
            image, or a mark is out of range.
        ModuleNotFoundError: If breaching is not installed, on which nothing else depends.
    """
    weights = [parameter.detach() for parameter in model.parameters()]
    if [tensor.shape for tensor in payload] != [weight.shape for weight in weights]:
        raise ValueError("the payload needs one tensor of the same shape per parameter, in order")
    if labels.ndim != 1:
        raise ValueError(f"labels are one class per image, so [n], not {list(labels.shape)}")
    if any(not 0 <= mark <= iterations for mark in marks):
        raise ValueError(f"marks must be from 0 to {iterations}, not {sorted(marks)}")
    device = weights[0].device
    setup = {"device": device, "dtype": torch.float}
    settings = {
        "optim.max_iterations": iterations,
        "optim.step_size": step_size,
        "optim.signed": sign,
        "optim.step_size_decay": schedule,
        "optim.callback": iterations + 1,  # its log: the first iteration and the last
        "regularization.total_variation.scale": tv,
        **(overrides or {}),
    }
    served, shared = _case(model, payload, labels, shape, mean, std, local)
    with _quiet(), torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
        attacker = import_module("breaching").attacks.prepare_attack(
            model, nn.CrossEntropyLoss(), _configuration(settings), setup
        )
        watch = _Watch(attacker, frozenset(marks), iterations)
        torch.manual_seed(seed)
        answer, stats = attacker.reconstruct([served], [shared], server_secrets={})
    center, scale = (torch.tensor(list(v)).view(1, -1, 1, 1) for v in (mean, std))
    done = sum(len(values) for name, values in stats.items() if name.startswith("Trial_"))
    return PeerResult(
        images=(answer["data"].float().cpu() * scale + center).clamp(0, 1),
        cost=stats["opt_value"],
        seconds=watch.seconds,
        processor_seconds=watch.processor_seconds,
        iterations=done,
        trace=tuple(Mark(i, at, images.cpu()) for i, at, images in watch.trace),
    )


def _case(
    model: nn.Module,
    payload: Sequence[Tensor],
    labels: Tensor,
    shape: tuple[int, int, int],
    mean: Sequence[float],
    std: Sequence[float],
    local: LocalSteps | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The message of breaching's server and the answer of its user, as its ``cases``."""
    weights = [parameter.detach() for parameter in model.parameters()]
    labels = labels.to(weights[0].device)
    shared = [tensor.detach() for tensor in payload]
    steps = None
    if local is not None:
        # Its users send the difference of the weights.
        shared = [after - before for after, before in zip(shared, weights, strict=True)]
        starts = [i * local.images_per_step % len(labels) for i in range(local.steps)]
        steps = {
            "lr": local.lr,
            "steps": local.steps,
            "data_per_step": local.images_per_step,
            "labels": [labels[start : start + local.images_per_step] for start in starts],
        }
    served = {
        "parameters": weights,
        "buffers": [buffer.detach() for buffer in model.buffers()],  # public: evaluation mode
        "metadata": SimpleNamespace(
            shape=shape, mean=tuple(mean), std=tuple(std), modality="vision", task="classification"
        ),
    }
    facts = {
        "num_data_points": len(labels),
        "labels": labels,
        "local_hyperparams": steps,
        "data_key": "inputs",
    }
    return served, {"gradients": shared, "buffers": None, "metadata": facts}


def _configuration(settings: Mapping[str, object]) -> Any:
    """Breaching's preset with these settings by dotted name."""
    hydra = import_module("hydra")
    changes = [f"{name}={json.dumps(value)}" for name, value in settings.items()]
    with hydra.initialize_config_module(CONFIGURATIONS, version_base="1.3"):
        return hydra.compose(PRESET, overrides=changes)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence breaching's log, and its warnings about newer versions of PyTorch."""
    log = logging.getLogger("breaching")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        log.setLevel(level)


class _Watch:
    """Time an attacker's trials and note its best iterate at marks, from outside its loop.

    Each iteration costs one comparison of two numbers that breaching has read from the device
    already, and a copy of the images when there is a new best.
    """

    def __init__(self, attacker: Any, marks: frozenset[int], iterations: int) -> None:
        self.seconds, self.processor_seconds = 0.0, 0.0
        self.trace: list[Mark] = []
        self._marks, self._iterations = marks, iterations
        self._run: Callable[..., Tensor] = attacker._run_trial
        self._objective: Callable[..., Callable[[], Tensor]] = attacker._compute_objective
        attacker._run_trial, attacker._compute_objective = self.run, self.objective

    def run(
        self,
        models: Any,
        shared: Any,
        labels: Tensor,
        stats: Mapping[str, list[float]],
        trial: int,
        start: Tensor | None,
        dryrun: bool,
    ) -> Tensor:
        """Run one trial with breaching's arguments."""
        self._first = trial == 0
        self._values = stats[f"Trial_{trial}_Val"]
        self._lowest = float("inf")
        self._began, before = time.perf_counter(), time.process_time()
        images = self._run(models, shared, labels, stats, trial, start, dryrun)
        # The loop reads its objective from the device in every iteration: nothing is pending.
        took = time.perf_counter() - self._began
        self.seconds += took
        self.processor_seconds += time.process_time() - before
        if (
            self._first
            and len(self._values) == self._iterations
            and self._iterations in self._marks
        ):
            self.trace.append(Mark(self._iterations, took, images))
        return images

    def objective(
        self, images: Tensor, labels: Tensor, models: Any, optimizer: Any, shared: Any, done: int
    ) -> Callable[[], Tensor]:
        """The objective, which breaching calls once at the beginning of every iteration."""
        if self._first:
            # Its rule: the iterate after the step, if the objective before the step was lowest.
            if not done or self._values[-1] < self._lowest:
                self._lowest = self._values[-1] if done else self._lowest
                self._best = images.detach().clone()
            if done in self._marks:
                self.trace.append(Mark(done, time.perf_counter() - self._began, self._best))
        return self._objective(images, labels, models, optimizer, shared, done)
