"""Re-tune an attack for a defense that the client is known to run.

An attack tuned on open updates flatters every defense: it matches noise as if it were signal. What
is changed here follows from how each defense distorts the payload, not from the truth.
"""

import math
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

SCARCE = 4
"""Entries of a payload for each unknown pixel below which the prior has to fill in what is missing.
With 4,900 entries for 3,100 or 12,300 pixels a stronger one gained 9 to 11 dB."""

FILLING = 0.02
"""Weight of the total variation that does so."""


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
    * Clip-noise: the update is known to have been shortened to the norm C and to hold noise of the
      size s. Of a simulated one of that same norm, ||C g/||g|| - g*||^2 is 2 C ||g*|| (1 - cosine)
      and a constant, so the cosine is the right match here, weighed like that against the prior.
    * Pruning, announced or seen in the payload itself: only what was left is compared, and where
      that is little, smoothness fills in the rest.
    * Quantisation keeps directions and changes scales, so the attack stays as it is.

    Args:
        attack: As tuned for open updates.
        payload: As captured.
        knowledge: Which defenses are on, and the noise that the server asked for.
        sent: The global state, by name; needed to see the change that weights stand for.

    Returns:
        The same attack if none of this applies.
    """
    changes = _changes(payload, sent)
    noise = noise_deviation(payload, knowledge)
    if noise:
        channels, height, width = knowledge.image_shape
        # Both terms times 2 s^2, so that the squared error has the weight 1.
        smoothness = 2 * noise**2 * ROUGHNESS * channels * height * width * knowledge.num_images
        attack = replace(attack, objective="l2", match=1.0, tv=smoothness, norm=0.0, features=0.0)
    if knowledge.update_clipping_norm is not None:
        attack = replace(attack, objective="cosine")
        length = _length(changes)
        if noise and length:
            attack = replace(attack, match=2 * knowledge.update_clipping_norm * length)
    if knowledge.clipping_norm is not None:
        attack = replace(attack, features=0.0, statistics=0.0)
    if not MIXING.isdisjoint(knowledge.defenses) and attack.labels == "auto":
        attack = replace(attack, labels="mixed")
    pruned = "pruning" in knowledge.defenses or _zeros(changes) > PRUNED
    if attack.mask is None and pruned:
        attack = replace(attack, mask="nonzero")
        if _left(changes) < SCARCE * knowledge.num_images * math.prod(knowledge.image_shape):
            attack = replace(attack, tv=max(attack.tv, FILLING))
    return attack


def noise_deviation(payload: Payload, knowledge: Knowledge) -> float:
    """Standard deviation of all noise on each entry of the descent, 0 without any.

    That of clip-noise is added to the update itself. Of weights the noises of DP-SGD's steps add
    up, each scaled by the learning rate; momentum, the network's own change between the steps, and
    that clip-noise may shorten them are left out.
    """
    return math.hypot(knowledge.update_noise, _noise_of_steps(payload, knowledge))


def _noise_of_steps(payload: Payload, knowledge: Knowledge) -> float:
    if not knowledge.noise_multiplier or knowledge.clipping_norm is None:
        return 0.0
    size = payload.num_examples
    if knowledge.local is not None:
        size = min(size, knowledge.local.batch_size)
    step = knowledge.noise_multiplier * knowledge.clipping_norm / size
    if payload.kind == "gradient" or knowledge.local is None:
        return step
    return float(step * knowledge.local.lr * payload.steps**0.5)


def _changes(payload: Payload, sent: Mapping[str, Tensor] | None) -> Mapping[str, Tensor]:
    """What images did to each tensor; nothing of weights whose start is not known."""
    if payload.kind == "gradient":
        return payload.tensors
    if sent is None:
        return {}
    return {name: tensor - sent[name] for name, tensor in payload.tensors.items()}


def _zeros(changes: Mapping[str, Tensor]) -> float:
    """Share of the entries that are exactly what they would be without any image."""
    total = sum(tensor.numel() for tensor in changes.values())
    return (total - _left(changes)) / max(1, total)


def _left(changes: Mapping[str, Tensor]) -> int:
    """Number of the other entries."""
    return sum(int((tensor != 0).sum()) for tensor in changes.values())


def _length(changes: Mapping[str, Tensor]) -> float:
    """L2 norm of all changes taken as one vector."""
    return math.sqrt(sum(float(tensor.square().sum()) for tensor in changes.values()))
