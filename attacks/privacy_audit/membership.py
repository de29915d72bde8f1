"""Membership inference from a client's update: which of these images did it train on?

Every ``by_`` function returns one score for each image, higher for what seems a member; what they
are worth is for ``judge`` to say. Loss: Yeom et al. (arXiv 1709.01604).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from attacks.gradients import Tensors
from attacks.payload import Payload
from attacks.privacy_audit.bounds import NON_MEMBERS_PER_FALSE_ALARM, auc, tpr_at_fpr
from attacks.privacy_audit.observation import TOGETHER, descent, example_gradients

RATES = (0.001, 0.01)
"""False positive rates to report: an average hides a few sure finds (arXiv 2112.03570)."""


@dataclass(frozen=True)
class MembershipResult:
    """How well scores tell members from others.

    Attributes:
        auc: Chance that a member is scored above a non-member.
        tpr: Share of members found, by the share of non-members taken for one; ``None`` where
            there are too few non-members to say.
        members: How many there were.
        non_members: Likewise.
    """

    auc: float
    tpr: dict[float, float | None]
    members: int
    non_members: int


def judge(members: Tensor, non_members: Tensor) -> MembershipResult:
    """AUC, and the members found at the false positive rates of ``RATES``.

    Args:
        members: Scores of members, float ``[n]``.
        non_members: Scores of others, float ``[m]``.

    Raises:
        ValueError: If either is empty.
    """
    enough = len(non_members)
    tpr = {
        rate: tpr_at_fpr(members, non_members, fpr=rate)
        if enough * rate >= NON_MEMBERS_PER_FALSE_ALARM
        else None
        for rate in RATES
    }
    return MembershipResult(auc(members, non_members), tpr, len(members), enough)


def by_loss(
    model: nn.Module, parameters: Tensors, buffers: Tensors, images: Tensor, labels: Tensor
) -> Tensor:
    """Minus the loss under the weights that the client sent (Yeom et al.).

    Args:
        model: In evaluation mode.
        parameters: The client's, by name; see ``Payload.as_weights``.
        buffers: By name.
        images: float ``[n, channels, height, width]``, normalised.
        labels: int64 ``[n]``.

    Returns:
        float32 ``[n]``.
    """
    logits = logits_of(model, parameters, buffers, images)
    return -functional.cross_entropy(logits, labels, reduction="none")


def by_loss_drop(
    model: nn.Module,
    before: Tensors,
    after: Tensors,
    buffers: Tensors,
    images: Tensor,
    labels: Tensor,
) -> Tensor:
    """By how much the loss fell from the global weights to those that the client sent.

    Arguments as of ``by_loss``, with both sets of weights.
    """
    now = by_loss(model, after, buffers, images, labels)
    return now - by_loss(model, before, buffers, images, labels)


def by_alignment(
    model: nn.Module,
    parameters: Tensors,
    buffers: Tensors,
    images: Tensor,
    labels: Tensor,
    *,
    payload: Payload,
    lr: float,
) -> Tensor:
    """Cosine between an image's own gradient at the global weights and the client's update.

    Args:
        model: In evaluation mode.
        parameters: Global ones, by name.
        buffers: By name.
        images: float ``[n, channels, height, width]``, normalised.
        labels: int64 ``[n]``.
        payload: What the client sent.
        lr: Learning rate of the round.

    Returns:
        float32 ``[n]``.
    """
    update = descent(payload, parameters, lr=lr).to(images.device)
    parts = [
        functional.cosine_similarity(
            example_gradients(model, parameters, buffers, some, own), update.unsqueeze(0)
        )
        for some, own in zip(
            torch.split(images, TOGETHER), torch.split(labels, TOGETHER), strict=True
        )
    ]
    return torch.cat(parts)


def logits_of(model: nn.Module, parameters: Tensors, buffers: Tensors, images: Tensor) -> Tensor:
    """What the network says, float32 ``[n, classes]``; arguments as of ``by_loss``."""
    state = {**parameters, **buffers}
    with torch.no_grad():
        parts = [functional_call(model, state, (some,)) for some in torch.split(images, TOGETHER)]
    return torch.cat(parts)
