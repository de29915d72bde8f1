"""Partitioners of Flower Datasets as partitions, so that clients have a Flower app's images."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fedlab.core.errors import BadInput
from fedlab.data.partitions import Partition, PartitionSettings

INDEX = "index"
"""Column with the place of each image."""


def as_partition(kind: type) -> Partition:
    """A partitioner of Flower Datasets as a partition.

    Its data set has the columns ``label``, where known ``group``, and ``index``. It draws by its
    own argument ``seed``, and not by the seed of the scenario.

    Args:
        kind: A class of ``flwr_datasets.partitioner``.

    Raises:
        BadInput: If Flower Datasets is not installed, or the class is none of its partitioners.
    """
    try:
        from flwr_datasets.partitioner import Partitioner
    except ImportError as error:
        raise BadInput(
            "data.partition names a class, which has to be a partitioner of Flower Datasets: pip "
            'install "fedlab-privacy[datasets]"'
        ) from error
    if not issubclass(kind, Partitioner):
        raise BadInput(f"{kind.__name__} is no partitioner of flwr_datasets.partitioner")

    def spread(
        labels: Tensor, clients: int, settings: PartitionSettings, generator: torch.Generator
    ) -> Sequence[Tensor]:
        from datasets import Dataset

        columns: dict[str, Any] = {"label": labels.tolist(), INDEX: list(range(len(labels)))}
        if settings.groups is not None:
            columns["group"] = settings.groups.tolist()
        options = dict(settings.options)
        if "num_partitions" in inspect.signature(kind).parameters:
            options.setdefault("num_partitions", clients)
        try:
            partitioner = kind(**options)
        except (TypeError, ValueError) as error:
            raise BadInput(f"data.partition_options of {kind.__name__}: {error}") from error
        partitioner.dataset = Dataset.from_dict(columns)
        if (count := partitioner.num_partitions) != clients:
            raise BadInput(f"{kind.__name__} makes {count} parts, but data.clients is {clients}")
        return [
            torch.tensor(list(partitioner.load_partition(client)[INDEX]))
            for client in range(clients)
        ]

    return spread
