"""Re-tune an attack for a defense that the client is known to run.

An attack tuned on open updates flatters every defense: it matches noise as if it were signal. What
is changed here follows from how each defense distorts the payload, not from the truth.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from attacks.knowledge import MIXING, Knowledge
from attacks.payload import Payload
from attacks.reconstruction.presets import Attack

ROUGHNESS = 1.0
"""Inverse of the mean difference of neighbouring pixels, in normalised units: that of digits. With
photographs' 4 the prior wins over what the gradient still tells."""

PRUNED = 0.5
"""Share of exact zeros in a payload above which it is taken for a pruned one."""


def adapted(
    attack: Attack,
    payload: Payload,
    knowledge: Knowledge,
    *,
    sent: Mapping[str, Tensor] | None = None,
) -> Attack:
    """The attack as an adaptive adversary would run it against this payload.

    * DP-SGD: the noise is Gaussian of known size s = z C / B, so the most probable images minimise
      ||g - g*||^2 / (2 s^2) plus the negative log prior, here that of Laplace-distributed
      differences of neighbours. Cosine and a fixed total variation know nothing of s, and priors
      on statistics and features lose their meaning where each example is clipped by itself.
    * DP-InstaHide, mixup and CutMix: labels are mixed, so their mean is estimated, and rounded
      only to what such a mean can be.
    * Pruning, seen in the payload itself: only what was left is compared.

    Args:
        attack: As tuned for open updates.
        payload: As captured.
        knowledge: Which defenses are on, and the noise that the server asked for.
        sent: The global state, by name; needed to see what was pruned of weights.

    Returns:
        The same attack if none of this applies.
    """
    noise = noise_deviation(payload, knowledge)
    if noise:
        channels, height, width = knowledge.image_shape
        # Both terms times 2 s^2, so that the match keeps the weight 1.
        smoothness = 2 * noise**2 * ROUGHNESS * channels * height * width * knowledge.num_images
        attack = replace(attack, objective="l2", match=1.0, tv=smoothness, norm=0.0)
    if knowledge.clipping_norm is not None:
        attack = replace(attack, features=0.0, statistics=0.0)
    if not MIXING.isdisjoint(knowledge.defenses) and attack.labels == "auto":
        attack = replace(attack, labels="mixed")
    if attack.mask is None and _zeros(payload, sent) > PRUNED:
        attack = replace(attack, mask="nonzero")
    return attack


def noise_deviation(payload: Payload, knowledge: Knowledge) -> float:
    """Standard deviation of DP-SGD's noise on each entry of the descent, 0 without any.

    Of weights the noises of all steps add up, each scaled by the learning rate; momentum and the
    network's own change between the steps are left out.
    """
    if not knowledge.noise_multiplier or knowledge.clipping_norm is None:
        return 0.0
    size = payload.num_examples
    if knowledge.local is not None:
        size = min(size, knowledge.local.batch_size)
    step = knowledge.noise_multiplier * knowledge.clipping_norm / size
    if payload.kind == "gradient" or knowledge.local is None:
        return step
    return float(step * knowledge.local.lr * payload.steps**0.5)


def _zeros(payload: Payload, sent: Mapping[str, Tensor] | None) -> float:
    """Share of the entries that are exactly what they would be without any image."""
    changes = payload.tensors
    if payload.kind == "weights":
        if sent is None:
            return 0.0
        changes = {name: tensor - sent[name] for name, tensor in changes.items()}
    zeros = sum(int((tensor == 0).sum()) for tensor in changes.values())
    return zeros / sum(tensor.numel() for tensor in changes.values())
