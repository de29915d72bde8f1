"""The processes of a federation on this machine, and the clients that they share."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch import Tensor

from fedlab.client.federated_data import FederatedData
from fedlab.core.errors import BadInput
from fedlab.core.processes import cores, is_worker
from fedlab.core.workers import Workers
from fedlab.engine import Grid
from fedlab.engine.in_process import in_process
from fedlab.engine.workers import Site, WorkersGrid
from fedlab.evaluation.model import AT_ONCE, ModelScore, combined, count
from fedlab.protocol.arrays import TensorArray, arrays_of
from fedlab.scenario.scenario import Scenario
from fedlab.simulation.foreign_plugins import defined_in_main

MOST = 16
"""Largest number of processes under ``auto``."""

MEMORY = 1.5 * 2**30
"""Bytes of free memory for each process under ``auto``."""


def workers_of(scenario: Scenario, device: torch.device) -> Workers:
    """The processes that a scenario asks for.

    Args:
        scenario: The scenario.
        device: Device of the images and the network.

    Raises:
        BadInput: If several processes are asked for where there can be one only.
    """
    asked, threads, alone = scenario.engine.workers, scenario.engine.threads, ""
    if device.type == "cuda":
        alone = "they would share one GPU"
    elif scenario.engine.clients_at_once > 1:
        alone = "engine.clients_at_once trains clients together in one process"
    elif own := defined_in_main(scenario):
        alone = f"{own} is defined in the notebook or script that runs"
    if asked == "auto":
        room = int(_free_memory() / MEMORY)
        count = 1 if alone or is_worker() else max(1, min(cores() // threads, room, MOST))
        return Workers(count, threads=threads, at_once=False)
    if asked > 1 and alone:
        raise BadInput(f"engine.workers is {asked}, but {alone}: set it to 1 or leave it out")
    return Workers(asked, threads=threads)


def shared_measure(
    grid: Grid, workers: Workers
) -> Callable[[Mapping[str, Tensor]], ModelScore] | None:
    """A measure of global weights on the test images that the processes share.

    Args:
        grid: What ``clients_here`` returned, or any other grid.
        workers: The processes.

    Returns:
        ``None`` if other processes have no test images.
    """
    if not isinstance(grid, WorkersGrid):
        return None
    site, images = grid.site, grid.test_images

    def measure(state: Mapping[str, Tensor]) -> ModelScore:
        return combined(workers.map(_Measure(site, arrays_of(state)), range(0, images, AT_ONCE)))

    return measure


@dataclass(frozen=True)
class _Measure:
    """Measures global weights on a part of the test images, in any process."""

    site: Site
    state: Mapping[str, TensorArray]

    def __call__(self, start: int) -> tuple[float, Tensor]:
        federated, _ = self.site()
        federated.load({name: array.tensor for name, array in self.state.items()})
        data = federated.data
        return count(
            federated.model,
            data.test_images,
            data.test_labels,
            federated.network_input,
            start=start,
        )


def _free_memory() -> float:
    """Bytes that this process and others may still take, at most what its container allows."""
    limit = Path("/sys/fs/cgroup/memory.max")
    try:
        allowed = float(limit.read_text())
    except (OSError, ValueError):  # no container, or one without a limit
        allowed = math.inf
    return min(float(psutil.virtual_memory().available), allowed)


def clients_here(federated: FederatedData, scenario: Scenario, workers: Workers) -> Grid:
    """Make the grid of a simulation on this machine.

    Args:
        federated: Images of all clients, and the network that they share.
        scenario: The scenario.
        workers: The processes that share the clients.
    """
    if workers.count == 1 or scenario.engine.deployed:
        return in_process(federated, scenario.data.clients, at_once=scenario.engine.clients_at_once)
    return WorkersGrid(federated, scenario, workers)
