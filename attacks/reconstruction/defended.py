"""Adapt the settings of an attack to the defense that the client is known to run.

An attack that is tuned on undefended updates overrates every defense, because it matches noise as
if it were signal. The changes here follow from how each defense distorts the payload.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate

from torch import Tensor

from attacks.knowledge import MIXING, Knowledge
from attacks.payload import Payload
from attacks.reconstruction.components import MASKS
from attacks.reconstruction.objectives import encoder_of
from attacks.reconstruction.presets import AttackSettings

ROUGHNESS = 1.0
"""Inverse of the mean difference of neighbouring pixels of digits, in normalised units. With 4, the
value of photographs, the prior dominates the information in the gradient."""

PRUNED = 0.5
"""Share of exact zeros, apart from those of dead units, above which a payload counts as pruned."""

PRUNING = frozenset({"pruning", "dual-pruning"})
"""Names of defenses that set entries of the update to 0."""

SCARCE = 4
"""Payload entries per unknown pixel below which the total variation gets at least ``FILLING``. With
4,900 entries for 3,100 or 12,300 pixels, a stronger prior gained 9 to 11 dB."""

FILLING = 0.02
"""Least weight of the total variation where few payload entries are left."""


def adapted(
    attack: AttackSettings,
    payload: Payload,
    knowledge: Knowledge,
    *,
    sent: Mapping[str, Tensor] | None = None,
    rounds: int = 1,
) -> AttackSettings:
    """Settings that an adaptive adversary would use against this payload.

    * DP-SGD: the noise is Gaussian with the known deviation s = z C / B, so the most probable
      images minimise ||g - g*||^2 / (2 s^2) plus the negative log prior, here that of Laplace
      distributed differences between neighbours. Cosine and a fixed total variation ignore s, and
      priors on statistics and features are meaningless where each example is clipped separately.
    * DP-InstaHide, mixup and CutMix: labels are mixed, so their mean is estimated, and rounded
      to the values that such a mean can have.
    * Clip-noise: the update was scaled to at most the norm C and carries noise of deviation s. For
      a simulated update of the same norm, ||C g/||g|| - g*||^2 equals 2 C ||g*|| (1 - cosine) plus
      a constant, so the objective is the cosine with that weight relative to the prior.
    * Pruning, known or visible in the payload: only the remaining entries are compared, and where
      few are left, the total variation is raised.
    * Gradient suppression under secure aggregation hides the last layer's bias, without which no
      features can be recovered, so the prior on them is left out.
    * OUTPOST adds noise to columns that are then the only ones without zeros, so its deviation can
      be measured: of the payload of one step only entries that stand out of it are compared.
    * A variational bottleneck (PRECODE) is attacked by what its noise does not reach.
    * CENSOR sends a direction that is orthogonal to the gradient and as long, so that images are
      sought whose gradient is orthogonal to the payload and as long.
    * A perturbed learning rate changes the length of the update, so its direction is compared.
    * Quantisation keeps directions and changes scales, so the settings stay unchanged.

    Args:
        attack: Settings for undefended updates.
        payload: The captured payload.
        knowledge: Assumptions, including the defenses that are on and their noise.
        sent: The global state by name; needed to compute the change of the weights.
        rounds: Number of rounds that are attacked jointly, over which noise averages out.

    Returns:
        The adapted settings; the same ones if no defense calls for a change.
    """
    plain, changes = attack, _changes(payload, sent)
    noise = noise_deviation(payload, knowledge) / math.sqrt(rounds)
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
    if knowledge.hidden:
        attack = replace(attack, features=0.0)
    if not MIXING.isdisjoint(knowledge.defenses) and attack.label_rule == "auto":
        attack = replace(attack, label_rule="mixed")
    if encoder_of(payload.tensors):
        attack = replace(attack, objective="bottleneck", match=1.0, tv=max(plain.tv, FILLING))
    if "censor" in knowledge.defenses:
        attack = replace(attack, objective="orthogonal", match=1.0, tv=plain.tv)
    if "lr-perturbation" in knowledge.defenses and attack.objective in ("l2", "l1"):
        # For equal lengths the squared error is twice their square times the cosine distance.
        match = 2 * _length(changes) ** 2 if noise and changes else 1.0
        attack = replace(attack, objective="cosine", match=match)
    if attack.mask is None and (mask := _mask(changes, payload, knowledge)):
        attack = replace(attack, mask=mask)
        left = _left(changes, mask)
        if left < SCARCE * knowledge.num_images * math.prod(knowledge.image_shape):
            attack = replace(attack, tv=max(attack.tv, FILLING))
    return attack


def _mask(changes: Mapping[str, Tensor], payload: Payload, knowledge: Knowledge) -> str | None:
    """Name of the choice of entries that suits the defenses; ``None`` for all entries."""
    if "outpost" in knowledge.defenses and payload.steps == 1 and _left(changes, "prominent"):
        return "prominent"
    pruned = not PRUNING.isdisjoint(knowledge.defenses) or _gaps(changes) > PRUNED
    return "nonzero" if pruned else None


def noise_deviation(payload: Payload, knowledge: Knowledge) -> float:
    """Standard deviation of all noise on each entry of the descent; 0 without noise.

    Clip-noise is added to the update itself. For weights, the noise of DP-SGD's steps adds up, each
    scaled by the learning rate, and by momentum once more in each later step. The estimate ignores
    changes of the gradient between steps, and the scaling by clip-noise.
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
    # With momentum m, k steps from the end a gradient counts 1 + m + ... + m^(k - 1) times.
    counts = accumulate(knowledge.local.momentum**power for power in range(payload.steps))
    return step * knowledge.local.lr * math.hypot(*counts)


def _changes(payload: Payload, sent: Mapping[str, Tensor] | None) -> Mapping[str, Tensor]:
    """Change of each tensor by the images; empty for weights whose start is unknown."""
    if payload.kind == "gradient":
        return payload.tensors
    if sent is None:
        return {}
    return {name: tensor - sent[name] for name, tensor in payload.tensors.items()}


def _gaps(changes: Mapping[str, Tensor]) -> float:
    """Share of entries that did not change, among those whose unit and input did somewhere else.

    A unit that no image activates leaves all of its weights as they were, and so does an input
    that is always 0; neither speaks of pruning.
    """
    zeros, total = 0, 0
    for tensor in changes.values():
        alive = tensor != 0
        if tensor.ndim > 1:
            alive = alive[alive.flatten(1).any(1)]
            alive = alive[:, alive.transpose(0, 1).flatten(1).any(1)]
        zeros, total = zeros + int((~alive).sum()), total + alive.numel()
    return zeros / max(1, total)


def _left(changes: Mapping[str, Tensor], mask: str) -> int:
    """Number of entries that a mask chooses."""
    return sum(int(kept.sum()) for kept in MASKS[mask](changes).values()) if changes else 0


def _length(changes: Mapping[str, Tensor]) -> float:
    """L2 norm of all changes, taken as one vector."""
    return math.sqrt(sum(float(tensor.square().sum()) for tensor in changes.values()))
