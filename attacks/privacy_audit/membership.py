"""Membership inference from a client's update: which images did the client train on?

Every ``by_`` function returns one score for each image, higher for images that seem members;
``judge`` measures how good the scores are. Loss: Yeom et al. (arXiv 1709.01604).
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
"""False positive rates to report; an average hides a few certain members (arXiv 2112.03570)."""


@dataclass(frozen=True)
class MembershipResult:
    """How well scores separate members from non-members.

    Attributes:
        auc: Area under the ROC curve, in [0, 1].
        tpr: True positive rate by false positive rate; ``None`` where there are too few non-members
            to measure it.
        members: Number of members.
        non_members: Number of non-members.
    """

    auc: float
    tpr: dict[float, float | None]
    members: int
    non_members: int


def judge(members: Tensor, non_members: Tensor) -> MembershipResult:
    """Measure the AUC, and the true positive rates at the false positive rates of ``RATES``.

    Args:
        members: Scores of members, float ``[n]``.
        non_members: Scores of non-members, float ``[m]``.

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
    """Score images by minus their loss with the weights that the client sent (Yeom et al.).

    Args:
        model: Network in evaluation mode.
        parameters: Parameters of the client by name; see ``Payload.as_weights``.
        buffers: Buffers of the network by name.
        images: Images, float ``[n, channels, height, width]``, normalised.
        labels: Class of each image, int64 ``[n]``.

    Returns:
        Score of each image, float32 ``[n]``.
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
    """Score images by the drop of their loss from the global weights to those of the client.

    The arguments are those of ``by_loss``, with both sets of weights.
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
    """Score images by the cosine between their gradient at the global weights and the update.

    Args:
        model: Network in evaluation mode.
        parameters: Global parameters by name.
        buffers: Buffers of the network by name.
        images: Images, float ``[n, channels, height, width]``, normalised.
        labels: Class of each image, int64 ``[n]``.
        payload: Payload that the client sent.
        lr: Learning rate of the round.

    Returns:
        Score of each image, float32 ``[n]``.
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
    """Return the logits, float32 ``[n, classes]``; the arguments are those of ``by_loss``."""
    state = {**parameters, **buffers}
    with torch.no_grad():
        parts = [functional_call(model, state, (some,)) for some in torch.split(images, TOGETHER)]
    return torch.cat(parts)
