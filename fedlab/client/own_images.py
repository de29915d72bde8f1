"""A client of a deployment: images of its own, and a task that it checks against its scenario."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch

from fedlab.client.federated_data import FederatedData, network_of
from fedlab.core.devices import device_of, prepare
from fedlab.core.errors import BadInput
from fedlab.data.images import ImageData
from fedlab.data.loading import load
from fedlab.protocol.planning import task_for
from fedlab.protocol.task import ClientTask
from fedlab.protocol.terms import Terms, scenario_digest
from fedlab.scenario.scenario import Scenario

IMAGES = "images"
"""Key of ``--node-config`` that names a SuperNode's own images, as ``data.source`` does."""

SCENARIO = "scenario"
"""Key of ``--node-config`` that names a SuperNode's own copy of the scenario."""


@dataclass(frozen=True)
class OwnImages:
    """The scenario and the images of one client, on its own machine.

    Attributes:
        scenario: The client's own copy of the scenario.
        data: The client's images, on the CPU.
        client: Partition id of the client.
    """

    scenario: Scenario
    data: ImageData
    client: int

    @property
    def terms(self) -> Terms:
        """The terms that follow from the scenario and the images."""
        return terms_of(self.scenario, self.data)

    def refuse(self, terms: Terms) -> None:
        """Refuse terms of the server that are not the client's own.

        Raises:
            BadInput: If scenario, classes, shape or normalisation differ.
        """
        if not 0 <= self.client < self.scenario.data.clients:
            raise BadInput(
                f"partition-id {self.client} is not from 0 to {self.scenario.data.clients - 1}, as "
                "data.clients of the scenario asks: correct --node-config"
            )
        if problem := terms.difference(self.terms):
            raise BadInput(f"client {self.client} does not take part: {problem}")

    def refuse_task(self, task: ClientTask) -> None:
        """Refuse a task that the scenario does not give this client, such as one without a defense.

        Raises:
            BadInput: If the task is another client's, or differs from the scenario.
        """
        own = task_for(
            self.scenario, round=task.round, client=self.client, proximal_mu=task.proximal_mu
        )
        if not 1 <= task.round <= self.scenario.rounds or own != task.model_copy(
            update={"history": None, "unanswered": None}
        ):
            raise BadInput(
                f"client {self.client} does not take part in round {task.round}: its task is not "
                "the one that the scenario gives it"
            )

    @cached_property
    def federated(self) -> FederatedData:
        """The images and the network of this client; other clients have no images here.

        Batches and noise follow from a random seed of the operating system, which nobody else
        knows, in place of the scenario's.
        """
        prepare(self.scenario.engine.threads)
        device = device_of(self.scenario.engine.device)
        none = torch.empty(0, dtype=torch.int64)
        everything = torch.arange(len(self.data.train_labels))
        return FederatedData(
            secrets.randbits(63),
            self.data.to(device),
            tuple(
                everything if client == self.client else none
                for client in range(self.scenario.data.clients)
            ),
            network_of(self.scenario, self.data).to(device),
            fresh=lambda seed: network_of(self.scenario, self.data, seed=seed).to(device),
            network=f'model "{self.scenario.model.factory or self.scenario.model.name}"',
        )


def terms_of(scenario: Scenario, data: ImageData) -> Terms:
    """The terms of a scenario with images; the server's are those of its public images."""
    return Terms(
        scenario=scenario_digest(scenario),
        clients=scenario.data.clients,
        classes=data.classes,
        shape=data.shape,
        mean=data.mean,
        std=data.std,
    )


def own_images(node: Mapping[str, object], run: Mapping[str, object]) -> OwnImages:
    """Load the images and the scenario that a SuperNode was started with, once in each process.

    Args:
        node: Settings of ``--node-config``: ``partition-id``, ``images``, and ``scenario`` unless
            the scenario is one that ships with the package.
        run: Settings of the run; ``scenario`` names a packaged scenario.

    Raises:
        BadInput: If a setting is missing, or the scenario or the images cannot be loaded.
    """
    if IMAGES not in node or "partition-id" not in node:
        raise BadInput(
            "a client of a deployment needs images of its own: start its SuperNode with "
            """--node-config 'partition-id=0 images="folder:PATH" scenario="FILE"'"""
        )
    name = node.get(SCENARIO, run.get(SCENARIO))
    return _load(str(name), str(node[IMAGES]), int(str(node["partition-id"])))


@lru_cache(maxsize=1)
def _load(name: str, source: str, client: int) -> OwnImages:
    scenario = Scenario.load(name)
    settings = scenario.data
    data = load(
        source,
        root=settings.root,
        image_size=settings.image_size,
        # Clients may have folders where the public images are of the Hub.
        label_by=settings.label_by if source.startswith("hf:") else None,
    )
    return OwnImages(scenario, data, client)
