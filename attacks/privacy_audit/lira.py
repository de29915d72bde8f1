"""LiRA: membership from the likelihood ratio of a confidence with and without the image.

Carlini et al., "Membership Inference Attacks From First Principles" (S&P 2022, arXiv 2112.03570).
The shadow models are shadow clients here, trained from the global weights as the client was.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from attacks.gradients import Tensors, unroll
from attacks.knowledge import LocalSGD
from attacks.privacy_audit.membership import logits_of


def confidences(
    model: nn.Module, parameters: Tensors, buffers: Tensors, images: Tensor, labels: Tensor
) -> Tensor:
    """Return the log-odds of the true class, log p_y - log(1 - p_y), which LiRA models as Gaussian.

    The arguments are those of ``membership.by_loss``.

    Returns:
        Confidence of each image, float64 ``[n]``.
    """
    chances = logits_of(model, parameters, buffers, images).double().log_softmax(1)
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
        model: Network in the mode that the client used.
        parameters: Global parameters by name.
        buffers: Buffers of the network by name.
        images: Images, float ``[n, channels, height, width]``, normalised: those to score, and
            similar images that the attacker has.
        labels: Class of each image, int64 ``[n]``.
        local: Local training that the server asked the client for.
        count: Number of shadow clients, an even number: each image is in the training images of
            half of them.
        generator: CPU generator that draws the halves and their order.

    Returns:
        Confidences, float64 ``[count, n]``, and which shadow client trained on which image, bool
        ``[count, n]``.

    Raises:
        ValueError: If the number is odd or below 2.
    """
    if count < 2 or count % 2:
        raise ValueError(f"the number of shadow clients must be even and at least 2, not {count}")
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
    """Score images by LiRA with one variance for all images, which suits few shadow clients.

    Online: log N(phi; mu_in, s_in) - log N(phi; mu_out, s_out), means per image. Offline: only
    shadows without the image are used, and the score is (phi - mu_out) / s_out.

    Args:
        observed: Confidences with the client's weights, float ``[n]``.
        shadows: Confidences with the weights of the shadow clients, float ``[s, n]``.
        included: True where a shadow client trained on an image, bool ``[s, n]``; each image must
            be included and left out at least once.
        variant: ``online`` uses shadow clients with and without the image, ``offline`` only those
            without it.

    Returns:
        Score of each image, float64 ``[n]``; higher means more likely a member.

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
