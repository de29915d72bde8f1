"""How training images are spread over clients: disjoint, seeded, and nobody without any."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fedlab.core.errors import BadInput

TRIES = 1_000
"""Draws of a Dirichlet partition before giving up on one without an empty client."""

Scheme = Literal["iid", "dirichlet", "classes"]


def partition(
    labels: Tensor,
    *,
    clients: int,
    scheme: Scheme,
    alpha: float = 0.5,
    classes_per_client: int = 2,
    generator: torch.Generator,
) -> tuple[Tensor, ...]:
    """Indices of the images that each client holds.

    Args:
        labels: int64 ``[n]``.
        clients: How many, at least 1.
        scheme: ``iid`` deals a random order out evenly; ``dirichlet`` gives each class to the
            clients in proportions drawn from Dirichlet(alpha) (Hsu et al. 2019, arXiv 1909.06335);
            ``classes`` gives each client images of so many classes only (McMahan et al. 2017,
            section 3), shared evenly among those that hold the class.
        alpha: Of ``dirichlet``: above 0, small for very different clients.
        classes_per_client: Of ``classes``. With fewer places than classes, the images of the
            classes left over belong to nobody.
        generator: CPU generator of all draws.

    Returns:
        One sorted int64 tensor per client; disjoint, none empty.

    Raises:
        BadInput: If a client would be left without images.
    """
    labels = labels.cpu()
    if len(labels) < clients:
        raise BadInput(
            f"{clients} clients cannot share {len(labels)} images without an empty one: "
            "lower data.clients or raise data.train"
        )
    match scheme:
        case "iid":
            parts = list(torch.randperm(len(labels), generator=generator).tensor_split(clients))
        case "dirichlet":
            parts = _dirichlet(labels, clients, alpha, generator)
        case "classes":
            parts = _classes(labels, clients, classes_per_client, generator)
    for client, part in enumerate(parts):
        if not len(part):
            raise BadInput(
                f"client {client} would hold no image: lower data.clients, or raise data.train "
                f"or {'data.alpha' if scheme == 'dirichlet' else 'data.classes_per_client'}"
            )
    return tuple(part.sort().values for part in parts)


def _dirichlet(
    labels: Tensor, clients: int, alpha: float, generator: torch.Generator
) -> list[Tensor]:
    # NumPy has Dirichlet draws by generator; PyTorch has them only from its global one.
    random = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
    members = _by_class(labels, generator)
    for _ in range(TRIES):
        shares = random.dirichlet([alpha] * clients, size=len(members))
        cuts = [
            np.rint(np.cumsum(share)[:-1] * len(indices)).astype(int).tolist()
            for share, indices in zip(shares, members, strict=True)
        ]
        parts = _dealt(members, cuts, clients)
        if all(len(part) for part in parts):
            break
    return parts


def _classes(
    labels: Tensor, clients: int, per_client: int, generator: torch.Generator
) -> list[Tensor]:
    members = _by_class(labels, generator)
    if per_client > len(members):
        raise BadInput(
            f"data.classes_per_client is {per_client}, but the images have {len(members)} classes"
        )
    order = torch.randperm(len(members), generator=generator).tolist()
    # Clients take the next classes in turn, so that every class has about as many holders.
    holders: list[list[int]] = [[] for _ in members]
    for place in range(clients * per_client):
        holders[order[place % len(members)]].append(place // per_client)
    parts: list[list[Tensor]] = [[] for _ in range(clients)]
    for indices, who in zip(members, holders, strict=True):
        if not who:
            continue
        for client, piece in zip(who, indices.tensor_split(len(who)), strict=True):
            parts[client].append(piece)
    return [torch.cat(pieces) for pieces in parts]


def _by_class(labels: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Indices of each class that occurs, in random order."""
    order = torch.randperm(len(labels), generator=generator)
    return [order[labels[order] == label] for label in torch.unique(labels)]


def _dealt(members: list[Tensor], cuts: list[list[int]], clients: int) -> list[Tensor]:
    pieces = [torch.tensor_split(indices, cut) for indices, cut in zip(members, cuts, strict=True)]
    return [torch.cat([piece[client] for piece in pieces]) for client in range(clients)]
