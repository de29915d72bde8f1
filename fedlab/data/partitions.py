"""Partitions: how the training images are spread over the clients, disjoint and by seed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedlab.core.errors import BadInput
from fedlab.core.plugins import describe
from fedlab.data.registry import PARTITIONS

TRIES = 1_000
"""Draws of a Dirichlet partition before giving up on one without an empty client."""


@dataclass(frozen=True)
class PartitionSettings:
    """Settings of the table ``[data]`` for the partitions that need them.

    Attributes:
        alpha: Concentration of ``dirichlet``, above 0; small values give very different clients.
        classes_per_client: Number of classes of each client under ``classes``, at least 1.
        groups: Where each image comes from, int64 ``[n]``, for ``natural``; ``None`` if unknown.
        options: Arguments of a partitioner of Flower Datasets.
    """

    alpha: float = 0.5
    classes_per_client: int = 2
    groups: Tensor | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


Partition = Callable[[Tensor, int, PartitionSettings, torch.Generator], Sequence[Tensor]]
"""A function of the int64 labels ``[n]``, the number of clients, the settings and the CPU generator
of all draws. It returns one int64 tensor of image indices per client: disjoint, none empty, in any
order. Images that it leaves out belong to nobody."""

_HINTS = {"dirichlet": " or data.alpha", "classes": " or data.classes_per_client"}


def partition(
    labels: Tensor,
    *,
    clients: int,
    scheme: str,
    alpha: float = 0.5,
    classes_per_client: int = 2,
    groups: Tensor | None = None,
    options: Mapping[str, Any] | None = None,
    generator: torch.Generator,
) -> tuple[Tensor, ...]:
    """Spread training images over clients.

    Args:
        labels: int64 ``[n]``.
        clients: Number of clients, at least 1.
        scheme: Name of a partition in ``PARTITIONS``, ``package.module:function``, or a partitioner
            of Flower Datasets as ``flwr_datasets.partitioner:NAME``.
        alpha: Concentration of ``dirichlet``, above 0.
        classes_per_client: Number of classes of each client under ``classes``, at least 1.
        groups: Where each image comes from, int64 ``[n]``.
        options: Arguments of a partitioner of Flower Datasets.
        generator: CPU generator of all draws.

    Returns:
        One sorted int64 tensor of image indices per client; disjoint, none empty.

    Raises:
        BadInput: If a client would have no images, or the partition breaks its contract.
    """
    labels = labels.cpu()
    if len(labels) < clients:
        raise BadInput(
            f"{clients} clients cannot share {len(labels)} images without an empty one: "
            "lower data.clients or raise data.train"
        )
    spread: Partition = PARTITIONS.get(scheme)
    if isinstance(spread, type):
        from fedlab.data.flower_partitions import as_partition  # an extra, which may be absent

        spread = as_partition(spread)
    elif options:
        raise BadInput(f'data.partition_options do not apply to the partition "{scheme}"')
    settings = PartitionSettings(alpha, classes_per_client, groups, options or {})
    try:
        parts = spread(labels, clients, settings, generator)
        if problem := _problem(parts, clients, len(labels)):
            raise BadInput(f'partition "{scheme}" {problem}')
    except BadInput:
        raise
    except Exception as error:  # somebody else's function may raise anything
        raise BadInput(f'partition "{scheme}" failed: {describe(error)}') from error
    for client, part in enumerate(parts):
        if not len(part):
            raise BadInput(
                f"client {client} would hold no image: lower data.clients, or raise data.train"
                + _HINTS.get(scheme, "")
            )
    return tuple(part.sort().values for part in parts)


def iid(
    labels: Tensor, clients: int, settings: PartitionSettings, generator: torch.Generator
) -> Sequence[Tensor]:
    """Images in random order, as many for each client."""
    return torch.randperm(len(labels), generator=generator).tensor_split(clients)


def dirichlet(
    labels: Tensor, clients: int, settings: PartitionSettings, generator: torch.Generator
) -> Sequence[Tensor]:
    """Shares of each class drawn from Dirichlet(data.alpha) (Hsu et al. 2019, arXiv 1909.06335)."""
    # NumPy draws from a Dirichlet distribution by generator; PyTorch only by its global one.
    random = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
    members = _by_class(labels, generator)
    for _ in range(TRIES):
        shares = random.dirichlet([settings.alpha] * clients, size=len(members))
        cuts = [
            np.rint(np.cumsum(share)[:-1] * len(indices)).astype(int).tolist()
            for share, indices in zip(shares, members, strict=True)
        ]
        parts = _cut(members, cuts, clients)
        if all(len(part) for part in parts):
            break
    return parts


def by_classes(
    labels: Tensor, clients: int, settings: PartitionSettings, generator: torch.Generator
) -> Sequence[Tensor]:
    """Images of data.classes_per_client classes for each client (McMahan et al. 2017, section 3).

    The clients of a class share it evenly. With fewer places than classes, the images of the
    classes left over belong to nobody.
    """
    members, per_client = _by_class(labels, generator), settings.classes_per_client
    if per_client > len(members):
        raise BadInput(
            f"data.classes_per_client is {per_client}, but the images have {len(members)} classes"
        )
    order = torch.randperm(len(members), generator=generator).tolist()
    # Clients take the next classes in turn, so that every class has about as many clients.
    owners: list[list[int]] = [[] for _ in members]
    for place in range(clients * per_client):
        owners[order[place % len(members)]].append(place // per_client)
    parts: list[list[Tensor]] = [[] for _ in range(clients)]
    for indices, who in zip(members, owners, strict=True):
        if not who:
            continue
        for client, piece in zip(who, indices.tensor_split(len(who)), strict=True):
            parts[client].append(piece)
    return [torch.cat(pieces) for pieces in parts]


def natural(
    labels: Tensor, clients: int, settings: PartitionSettings, generator: torch.Generator
) -> Sequence[Tensor]:
    """All images that come from one place, such as a hospital or a writer, at one client.

    With fewer clients than places, each client has the images of as many places as the others, or
    of one more; places are drawn at random.
    """
    if settings.groups is None:
        raise BadInput(
            'data.partition "natural" needs to know where each image comes from: name a column by '
            "data.group_by, or add an array train_groups to the .npz file"
        )
    places = torch.unique(settings.groups)
    if len(places) < clients:
        raise BadInput(
            f"data.clients is {clients}, but the images come from {len(places)} places only"
        )
    order = places[torch.randperm(len(places), generator=generator)]
    return [
        torch.isin(settings.groups, own).nonzero().flatten() for own in order.tensor_split(clients)
    ]


def _problem(parts: Sequence[Tensor], clients: int, images: int) -> str | None:
    """How a partition breaks its contract, as the rest of a sentence that begins with its name."""
    if len(parts) != clients:
        return f"gives {len(parts)} parts for {clients} clients"
    for client, part in enumerate(parts):
        if not isinstance(part, Tensor) or part.dtype != torch.int64 or part.ndim != 1:
            got = f"{part.dtype} {list(part.shape)}" if isinstance(part, Tensor) else type(part)
            return f"must give int64 indices [n] for client {client}, not {got}"
    together = torch.cat(list(parts))
    if len(together) and not 0 <= int(together.min()) <= int(together.max()) < images:
        return f"gives indices outside of 0 to {images - 1}"
    if len(torch.unique(together)) < len(together):
        return "gives an image to more than one client"
    return None


def _by_class(labels: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Indices of each class that occurs, in random order."""
    order = torch.randperm(len(labels), generator=generator)
    return [order[labels[order] == label] for label in torch.unique(labels)]


def _cut(members: list[Tensor], cuts: list[list[int]], clients: int) -> list[Tensor]:
    pieces = [torch.tensor_split(indices, cut) for indices, cut in zip(members, cuts, strict=True)]
    return [torch.cat([piece[client] for piece in pieces]) for client in range(clients)]
