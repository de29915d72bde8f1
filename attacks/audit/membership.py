"""Membership inference from a client's update: which of these images did it train on?

Every function returns one score for each image, higher for what seems a member. Loss: Yeom et al.
(arXiv 1709.01604); LiRA: Carlini et al. (arXiv 2112.03570).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from attacks.audit.bounds import NON_MEMBERS_PER_FALSE_ALARM, auc, tpr_at_fpr
from attacks.audit.observation import TOGETHER, descent, example_gradients
from attacks.gradients import Tensors, unroll
from attacks.knowledge import LocalSGD
from attacks.payload import Payload

RATES = (0.001, 0.01)
"""False positive rates at which membership inference is reported (arXiv 2112.03570, section III)."""


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
        parameters: The client's, by name; see ``weights_after``.
        buffers: By name.
        images: float ``[n, channels, height, width]``, normalised.
        labels: int64 ``[n]``.

    Returns:
        float32 ``[n]``.
    """
    logits = _logits(model, parameters, buffers, images)
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
        for some, own in zip(images.split(TOGETHER), labels.split(TOGETHER), strict=True)
    ]
    return torch.cat(parts)


def confidences(
    model: nn.Module, parameters: Tensors, buffers: Tensors, images: Tensor, labels: Tensor
) -> Tensor:
    """Log-odds of the true class, log p_y - log(1 - p_y), which LiRA takes for normal.

    Arguments as of ``by_loss``.

    Returns:
        float64 ``[n]``.
    """
    chances = _logits(model, parameters, buffers, images).double().log_softmax(1)
    true = functional.one_hot(labels, chances.shape[1]).bool()
    return chances[true] - chances.masked_fill(true, -torch.inf).logsumexp(1)


def shadow_confidences(
    model: nn.Module,
    parameters: Tensors,
    buffers: Tensors,
    images: Tensor,
    labels: Tensor,
    *,
    local: LocalSGD,
    count: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Train shadow clients from the global weights, each on a random half of the images.

    Args:
        model: In the mode that the client used.
        parameters: Global ones, by name.
        buffers: By name.
        images: float ``[n, channels, height, width]``, normalised: those to judge and any others
            of the kind that the attacker has.
        labels: int64 ``[n]``.
        local: The client's training, as the server announced it.
        count: Shadow clients; each image is among the training images of half of them, so an even
            number.
        generator: CPU generator that draws the halves and their order.

    Returns:
        Confidences float64 ``[count, n]``, and which image each shadow trained on, bool likewise.

    Raises:
        ValueError: If the number is odd or below 2.
    """
    if count < 2 or count % 2:
        raise ValueError(f"shadow clients come in pairs, and {count} of them do not")
    ranks = torch.rand(count, len(labels), generator=generator).argsort(0)
    included = ranks < count // 2
    rows = []
    for chosen in included:
        members = chosen.nonzero().squeeze(1)
        members = members[torch.randperm(len(members), generator=generator)].to(images.device)
        trained = unroll(model, parameters, buffers, images[members], labels[members], local=local)
        weights = {name: p.detach() for name, p in trained.items()}
        rows.append(confidences(model, weights, buffers, images, labels))
    return torch.stack(rows), included.to(images.device)


def by_likelihood_ratio(
    observed: Tensor,
    shadows: Tensor,
    included: Tensor,
    *,
    variant: Literal["online", "offline"] = "online",
) -> Tensor:
    """LiRA with one variance for all images, the better choice with few shadow models.

    Online: log N(phi; mu_in, s_in) - log N(phi; mu_out, s_out), means per image. Offline: only
    shadows without the image are used, and the score is (phi - mu_out) / s_out.

    Args:
        observed: Confidences under the client's weights, float ``[n]``.
        shadows: Under those of the shadow clients, float ``[s, n]``.
        included: bool ``[s, n]``; each image must be in and out at least once.
        variant: Which.

    Returns:
        float64 ``[n]``.

    Raises:
        ValueError: If an image was never left out, or, online, never included.
    """
    if not bool((~included).any(0).all()):
        raise ValueError("LiRA needs, for each image, a shadow model trained without it")
    outside, spread_out = _gaussians(shadows, ~included)
    from_out = (observed - outside) / spread_out
    if variant == "offline":
        return from_out
    if not bool(included.any(0).all()):
        raise ValueError("online LiRA needs, for each image, a shadow model trained on it")
    inside, spread_in = _gaussians(shadows, included)
    from_in = (observed - inside) / spread_in
    return (from_out.square() - from_in.square()) / 2 + (spread_out / spread_in).log()


def _gaussians(shadows: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of each column over the used entries, and the deviation about it, of all together."""
    shadows = shadows.double()
    mean = (shadows * used).sum(0) / used.sum(0)
    squares = ((shadows - mean) * used).square().sum()
    free = max(1, int(used.sum()) - used.shape[1])
    return mean, (squares / free).sqrt().clamp(min=1e-12)


def _logits(model: nn.Module, parameters: Tensors, buffers: Tensors, images: Tensor) -> Tensor:
    with torch.no_grad():
        state = {**parameters, **{name: b.clone() for name, b in buffers.items()}}
        return torch.cat(
            [functional_call(model, state, (some,)) for some in images.split(TOGETHER)]
        )
