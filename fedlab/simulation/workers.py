"""The processes of a federation, on this machine or on a Ray cluster, and what they share."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fedlab.client.federated_data import FederatedData
from fedlab.core.errors import BadInput
from fedlab.core.memory import room_for_processes
from fedlab.core.processes import cores
from fedlab.core.workers import Workers
from fedlab.engine import Grid
from fedlab.engine.in_process import in_process
from fedlab.engine.workers import Images, Site, WorkersGrid
from fedlab.evaluation.model import AT_ONCE, ModelScore, combined, count
from fedlab.protocol.arrays import TensorArray, arrays_of
from fedlab.scenario.scenario import Scenario
from fedlab.simulation.foreign_plugins import defined_in_main

MOST = 16
"""Largest number of processes under ``auto``."""


def workers_of(scenario: Scenario, device: torch.device) -> Workers:
    """The processes that a scenario asks for.

    Args:
        scenario: The scenario.
        device: Device of the images and the network.

    Raises:
        BadInput: If several processes are asked for where there can be one only.
    """
    asked, threads, alone = scenario.engine.workers, scenario.engine.threads, ""
    if scenario.engine.name == "ray":
        return _workers_on_ray(scenario, on_gpus=device.type == "cuda")
    if device.type == "cuda":
        alone = "they would share one GPU"
    elif scenario.engine.clients_at_once > 1:
        alone = "engine.clients_at_once trains clients together in one process"
    elif own := defined_in_main(scenario):
        alone = f"{own} is defined in the notebook or script that runs"
    if asked == "auto":
        count = 1 if alone else max(1, min(cores() // threads, room_for_processes(), MOST))
        return Workers(count, threads=threads, at_once=False)
    if asked > 1 and alone:
        raise BadInput(f"engine.workers is {asked}, but {alone}: set it to 1 or leave it out")
    return Workers(asked, threads=threads)


def _workers_on_ray(scenario: Scenario, *, on_gpus: bool) -> Workers:
    if own := defined_in_main(scenario):
        raise BadInput(
            f"{own} is defined in the notebook or script that runs, and processes of Ray cannot "
            "find it: put it into a module"
        )
    try:
        from fedlab.engine.ray import RayWorkers
    except ModuleNotFoundError as error:
        raise BadInput(
            f"engine.name = \"ray\" needs Ray ({error}): pip install 'flwr[simulation]'"
        ) from error
    asked, threads = scenario.engine.workers, scenario.engine.threads
    here = max(1, min(scenario.data.clients, cores() // threads))
    return RayWorkers(
        scenario.engine.address or os.environ.get("RAY_ADDRESS"),
        most=None if asked == "auto" else asked,
        here=here if asked == "auto" else asked,
        threads=threads,
        on_gpus=on_gpus,
    )


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


def clients_here(federated: FederatedData, scenario: Scenario, workers: Workers) -> Grid:
    """Make the grid of a simulation.

    Args:
        federated: Images of all clients, and the network that they share.
        scenario: The scenario.
        workers: The processes that share the clients.
    """
    images: Images | None = None
    if scenario.engine.name == "ray":
        from fedlab.engine.ray_images import StoredImages

        images = StoredImages(federated.data)
    elif workers.count == 1 or scenario.engine.deployed:
        return in_process(federated, scenario.data.clients, at_once=scenario.engine.clients_at_once)
    return WorkersGrid(federated, scenario, workers, images)
