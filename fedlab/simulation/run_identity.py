"""Digests of what a run depends on beside its scenario: images, partition, network and code."""

import hashlib
import json

import torch

from fedlab.client.federated_data import FederatedData
from fedlab.core.digest import digest
from fedlab.core.errors import BadInput
from fedlab.data.images import ImageData
from fedlab.scenario.scenario import Scenario
from fedlab.simulation.foreign_plugins import foreign_plugins


def contents_of(scenario: Scenario, federated: FederatedData) -> dict[str, str]:
    """SHA-256 of images, partition, network and the code of plug-ins, by what they are called.

    The network counts by its layers and shapes: its initial weights follow from the seed. Attacks
    and further metrics may change in a run folder, so their code is left out.

    Args:
        scenario: The scenario of the run.
        federated: Its images, their partition and the network.
    """
    network = {name: list(value.shape) for name, value in federated.state.items()}
    shares = {str(client): members for client, members in enumerate(federated.partitions)}
    planted = {f"planted {c}": each.images for c, each in federated.planted.items()}
    return {
        "the images": image_digest(federated.data),
        "the partition": digest({**shares, **planted, "root": federated.root}),
        "the network": _text_digest(f"{federated.model} {json.dumps(network)}"),
        **{f"the code of {name}": value for name, value in _code(scenario).items()},
    }


def image_digest(images: ImageData) -> str:
    """SHA-256 of images, labels and normalisation."""
    return digest(
        {
            "train": images.train_images,
            "train labels": images.train_labels,
            "test": images.test_images,
            "test labels": images.test_labels,
            "normalisation": torch.tensor([images.mean, images.std]),
        }
    )


def _code(scenario: Scenario) -> dict[str, str]:
    try:
        return foreign_plugins(scenario.changed(reconstructions=[], metrics=[]))
    except BadInput:  # a class of a notebook has no source that would tell its versions apart
        return {}


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
