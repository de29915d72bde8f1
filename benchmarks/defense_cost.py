"""Time of a round of local training under each defense, beside a round without any.

The baseline of DP-SGD is Opacus as its documentation shows it, in its fastest mode for this
network. All take turns, so that a busy machine slows them alike.
"""

import time
import warnings
from collections.abc import Callable
from statistics import median

import torch
from opacus import GradSampleModule
from opacus.grad_sample import GradSampleModuleExpandedWeights
from opacus.optimizers import DPOptimizer
from torch.nn import functional

from benchmarks.arms import ARMS
from benchmarks.report import Claim, Figure
from fedlab.client.client_round import run_client_round
from fedlab.client.federated_data import FederatedData
from fedlab.core.devices import prepare
from fedlab.protocol.planning import task_for
from fedlab.scenario.scenario import Scenario

TURNS = 7
CLIENT = 1
MOST_OF_OPEN = 1.15
"""Time of DP-InstaHide over that of open training."""
MOST_OF_OPACUS = 1.05
"""Time of DP-SGD over that of Opacus by hand."""

OURS = "DP-SGD z=1.0"

MODES = {"hooks": GradSampleModule, "ew": GradSampleModuleExpandedWeights}
"""Opacus' ways to per-example gradients that are worth racing; functorch and ghost never won."""


def cost(open_run: Scenario) -> tuple[list[Figure], list[Claim]]:
    """Measure the time of an honest client's round under each arm over that of the open arm.

    Args:
        open_run: Scenario without defenses.
    """
    prepare(open_run.engine.threads)
    federated = FederatedData.of(open_run)
    racers: dict[str, Callable[[], None]] = {
        arm: _ours(federated, open_run.changed(**tables)) for arm, tables in ARMS.items()
    }
    by_hand = {f"Opacus by hand, {mode}": _by_hand(federated, open_run, mode) for mode in MODES}
    seconds = _race(racers | by_hand)
    # A race of its own, in which they follow each other closely: a busy machine slows them alike.
    private = _race({OURS: racers[OURS], **by_hand})
    factors = {
        name: [one / other for one, other in zip(times, seconds["none"], strict=True)]
        for name, times in seconds.items()
    }
    best = min(by_hand, key=lambda name: median(private[name]))
    ratio = [a / b for a, b in zip(private[OURS], private[best], strict=True)]
    mixes = [arm for arm in ARMS if arm.startswith("DP-InstaHide")]
    mixing = max(mixes, key=lambda arm: median(factors[arm]))
    figures = [
        Figure("a round of local training, open", "s", seconds["none"]),
        *(Figure(f"time factor, {name}", "", values) for name, values in factors.items()),
        Figure("DP-SGD over Opacus by hand", "", ratio),
    ]
    return figures, [
        Claim(
            f"DP-SGD takes {median(ratio):.2f} times {best}, at most {MOST_OF_OPACUS}",
            median(ratio) <= MOST_OF_OPACUS,
        ),
        Claim(
            f"{mixing} takes {median(factors[mixing]):.2f} times open training, at most "
            f"{MOST_OF_OPEN}",
            median(factors[mixing]) <= MOST_OF_OPEN,
        ),
    ]


def _race(racers: dict[str, Callable[[], None]]) -> dict[str, list[float]]:
    """Seconds of each in every turn, after a turn to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in racers}
    for turn in range(TURNS + 1):
        for name, racer in racers.items():
            started = time.perf_counter()
            racer()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def _ours(federated: FederatedData, scenario: Scenario) -> Callable[[], None]:
    plan = task_for(scenario, round=1, client=CLIENT)
    state = federated.state

    def round() -> None:
        run_client_round(plan, federated, state, ())

    return round


def _by_hand(federated: FederatedData, scenario: Scenario, mode: str) -> Callable[[], None]:
    """Train with the same network, images and Poisson batches by Opacus' objects alone."""
    training, shard, state = scenario.training, federated.shard(CLIENT), federated.state
    n = len(shard)
    steps = training.epochs * -(-n // training.batch_size)

    def round() -> None:
        federated.load(state)
        federated.model.train()
        generator = torch.Generator().manual_seed(0)
        model = MODES[mode](federated.model)
        optimizer = DPOptimizer(
            torch.optim.SGD(federated.model.parameters(), lr=scenario.lr(1)),
            noise_multiplier=1.0,
            max_grad_norm=1.0,
            expected_batch_size=training.batch_size,
            generator=generator,
        )
        for _ in range(steps):
            batch = (torch.rand(n, generator=generator) < training.batch_size / n).nonzero()
            images = federated.network_input(shard.images[batch.squeeze(1)])
            # Expanded weights fail on grey images in channels-last order, and hooks are wrong.
            images = images.clone(memory_format=torch.contiguous_format)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Full backward hook is firing")
                output = model(images)
                functional.cross_entropy(output, shard.labels[batch.squeeze(1)]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
        model.to_standard_module()

    return round
