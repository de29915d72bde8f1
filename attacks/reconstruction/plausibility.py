"""Whether a payload can come from the stated local training, judged before an attack without truth.

Each check is either exact for any images (the rank, size and direction of the last layer's change,
the counters of BatchNorm), or compares the payload with simulated clients on other images. What a
check cannot decide it leaves alone, so that no finding means "nothing was noticed".
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from attacks.knowledge import Knowledge
from attacks.payload import Payload
from attacks.reconstruction.modes import mode
from attacks.reconstruction.payload_consistency import Consistency
from attacks.reconstruction.problem import Problem
from attacks.reconstruction.simulated_clients import length, stated, surrogates, vector

FLAT = 2.5
"""Kurtosis of an update's entries below which they are of nearly equal size. Measured over four
networks and three data sets: at least 7 after SGD, at most 2.3 after Adam with up to 8 steps, and 3
for Gaussian noise."""

NEGLIGIBLE = 0.01
"""Size of an entry, as a share of the root mean square, below which its size says nothing."""

EXACT = 1e-2
"""Relative error up to which an identity of the last layer counts as fulfilled."""

STILL = 0.5
"""Share of the entries that move in a simulated update which must be exactly zero in the captured
one for pruning or frozen layers to be reported."""

LEAST_COSINE, CERTAIN_COSINE, LARGEST_RATIO = 0.5, 0.9, 2.0
"""Fit of reconstructed images that is reported: a cosine below the first, or one above the second
with lengths that differ by more than the third."""


def implausible(
    model: nn.Module,
    global_state: Mapping[str, Tensor],
    payload: Payload,
    knowledge: Knowledge,
    *,
    generator: torch.Generator,
    buffers: Mapping[str, Tensor] | None = None,
) -> tuple[str, ...]:
    """Find signs that a payload does not come from the stated local training.

    Updates under a known defense are not checked, since clipping, noise, pruning and signs change
    what the checks look at.

    Args:
        model: The architecture, on the device to compute on; it is not changed.
        global_state: Parameters and buffers that the client started from, by name.
        payload: Gradient or weights that the client sent.
        knowledge: Assumptions of the attacker; its public images, if any, are the surrogates.
        generator: CPU generator of the surrogates.
        buffers: Buffers in the client's reply, by name; ``None`` if it sent none.

    Returns:
        Whole sentences that name the sign, the likely cause and what is still possible; none if
        nothing was noticed.

    Raises:
        ValueError: If network, payload and knowledge do not fit each other.
    """
    problem = Problem.of(model, global_state, payload, knowledge)
    change = payload.tensors
    if payload.kind == "weights":
        change = {name: problem.parameters[name] - after for name, after in change.items()}
    entries = vector(change)
    if knowledge.defenses or not entries.any() or not torch.isfinite(entries).all():
        return ()  # the attack itself refuses an update without direction
    # Dropout draws from the global generator, whose state must stay as it is for the attack.
    gpus = [problem.device] if problem.device.type == "cuda" else []
    with mode(model, training=knowledge.training_mode), torch.random.fork_rng(gpus):
        found = [
            _sizes(problem, change),
            _still(problem, generator),
            _counters(problem, global_state, buffers or {}) or _norm_layers(problem, generator),
        ]
        # One wrong assumption upsets the checks that build on it.
        for check in (_last_layer, length):
            if not any(found):
                found.append(check(problem, generator))
    return tuple(sentence for sentence in found if sentence)


def unexplained(fit: Consistency) -> tuple[str, ...]:
    """Find signs that reconstructed images do not explain the payload, in whole sentences.

    Args:
        fit: Comparison of the captured payload with the simulated one of the images.
    """
    if not fit.cosine >= LEAST_COSINE:  # NaN as well
        return (
            f"the images explain the update badly (cosine {fit.cosine:.2f}, 1 for true images): "
            "the attack failed, or normalisation, optimiser, steps or mode of the network are not "
            "as stated",
        )
    if fit.cosine < CERTAIN_COSINE or max(fit.length, 1 / fit.length) < LARGEST_RATIO:
        return ()
    return (
        f"the images explain the direction of the update, but theirs is {fit.length:.2g} times as "
        "long: the learning rate or the number of steps is not as stated",
    )


def _sizes(problem: Problem, change: Mapping[str, Tensor]) -> str | None:
    """Whether the entries' sizes are those of the stated optimiser."""
    local = problem.knowledge.local
    sizes = vector(change).abs()
    # Entries without a gradient stay at 0, or move by a small weight decay.
    sizes = sizes[sizes > NEGLIGIBLE * sizes.square().mean().sqrt()]
    flat = bool(sizes.pow(4).mean() < FLAT * sizes.square().mean().square())
    typical = float(sizes.median())
    if local is None or not local.adaptive:
        return _flat(typical) if flat else None
    if len(problem.blocks) > 1:
        return None
    if not flat:
        return (
            "the entries of the update differ in size as after SGD, and not as after one step of "
            f"{local.optimiser}, which moves all by nearly the learning rate: state SGD, whose "
            "updates leak more"
        )
    if 0.5 < typical / local.lr < 1.1:
        return None
    return (
        f"the entries of the update have a size of {typical:.1e}, and the first step of "
        f"{local.optimiser} moves them by the learning rate, which was stated as {local.lr:g}: "
        "state the learning rate or the number of steps behind this size"
    )


def _flat(size: float) -> str:
    return (
        f"the entries of the update have nearly the same size (median {size:.1e}), as after Adam, "
        "AdamW or a rule that sends signs, and not as after SGD: state the optimiser, such as "
        "adam; an attack that takes them for SGD's finds little"
    )


def _still(problem: Problem, generator: torch.Generator) -> str | None:
    """Whether more of the update is exactly zero than in simulated updates."""
    # Changes below the rounding of the weights vanish without a defense.
    sound = [name for name in problem.target if problem.rounding(name) < EXACT]
    if not sound:
        return None
    local = problem.knowledge.local
    captured = vector({name: problem.target[name] for name in sound}) == 0
    if local is not None and local.weight_decay * local.lr > 1e-5:  # far above rounding errors
        weights = vector({name: problem.parameters[name] for name in sound})
        unmoved = float((captured & (weights.abs() > 1e-3)).float().mean())
        if unmoved > EXACT:
            return (
                f"{unmoved:.0%} of the weights did not move at all, though weight decay "
                f"{local.weight_decay:g} was stated, which moves each: state 0"
            )
        return None
    simulated = problem.simulate(*surrogates(problem, generator), create_graph=False)
    still = [name for name, tensor in problem.target.items() if not tensor.any()]
    frozen = [n for n in still if problem.parameters[n].ndim > 1 and simulated[n].any()]
    if frozen:
        return (
            f"{frozen[0]} did not move at all, and moves in a simulated update: it was frozen or "
            "pruned; an attack can still use the rest (mask nonzero)"
        )
    share = float(captured.float().mean())
    expected = float((vector({name: simulated[name] for name in sound}) == 0).float().mean())
    if share < expected + STILL * (1 - expected):
        return None
    return (
        f"{share:.0%} of the update is exactly zero, against {expected:.0%} of a simulated one: it "
        "was pruned; an attack can still use the rest (mask nonzero)"
    )


def _counters(
    problem: Problem, sent: Mapping[str, Tensor], buffers: Mapping[str, Tensor]
) -> str | None:
    """Whether the counters of BatchNorm in a reply fit the mode and the steps."""
    known = problem.knowledge
    counts = {
        int(tensor) - int(sent[name])
        for name, tensor in buffers.items()
        if name.endswith("num_batches_tracked") and name in sent
    }
    steps = len(problem.blocks)
    if not counts or counts == {steps if known.training_mode else 0}:
        return None
    made = max(counts)
    if made == 0:
        return (
            "the BatchNorm counters in the reply did not move, so the client's network was in "
            "evaluation mode and not in training mode: state it (mode eval)"
        )
    if not known.training_mode:
        return (
            f"the BatchNorm counters in the reply moved by {made}, so the client's network was in "
            "training mode and not in evaluation mode: state it (mode train)"
        )
    return (
        f"the BatchNorm counters in the reply moved by {made}, but {steps} local steps were "
        "stated: correct the number of images, epochs or the batch size"
    )


def _norm_layers(problem: Problem, generator: torch.Generator) -> str | None:
    """Whether BatchNorm was in the stated mode, from the direction of the weights before it.

    In training mode the output does not depend on the length of such weights, so their gradient is
    orthogonal to them; in evaluation mode it is not.
    """
    layers = [m for m in problem.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not layers:
        return None
    images, labels = surrogates(problem, generator)
    shares = []
    for training in (True, False):
        with mode(problem.model, training=training):
            try:
                simulated = problem.simulate(images, labels, create_graph=False)
            except ValueError:  # one value per channel has no statistics
                return None
        shares.append(_radial(problem, simulated))
    captured = _radial(problem, problem.target)
    telling = [
        name
        for name, share in captured.items()
        if 0 < 100 * shares[0][name] < shares[1][name] and share > 0
    ]
    if not telling:
        return None
    votes = [captured[name] ** 2 < shares[0][name] * shares[1][name] for name in telling]
    training = sum(votes) > len(votes) / 2
    if training == problem.knowledge.training_mode:
        return None
    stated, true = ("training", "evaluation") if not training else ("evaluation", "training")
    return (
        f"the weights before BatchNorm moved as in {true} mode, and not as in {stated} mode: state "
        f"the mode {'train' if training else 'eval'}, or the weight decay if there was one"
    )


def _radial(problem: Problem, change: Mapping[str, Tensor]) -> dict[str, float]:
    """Share of each weight's change that lies along the weight, per output channel."""
    found = {}
    # Without weight decay, which is along the weight in both modes.
    local = problem.knowledge.local
    gradient = replace(problem, target=change).mean_gradient() if local else dict(change)
    for name, weight in problem.parameters.items():
        if weight.ndim > 1:
            rows, moved = weight.flatten(1), gradient[name].detach().flatten(1)
            along = (rows * moved).sum(1).square() / rows.square().sum(1).clamp(min=1e-30)
            found[name] = float(along.sum() / moved.square().sum().clamp(min=1e-30))
    return found


def _last_layer(problem: Problem, generator: torch.Generator) -> str | None:
    """Whether the change of a linear last layer can be a gradient of softmax and cross-entropy.

    The gradient of its bias is the mean of p - y, so its absolute entries sum to at most 2 per
    step. For one image and one step the gradient of its weights is (p - y) h^T, which gives the
    features h, from them p, and so the learning rate.
    """
    known = problem.knowledge
    (weight, _), (bias, _) = list(problem.parameters.items())[-2:]
    if problem.parameters[bias].shape != (known.num_classes,) or (
        known.local is not None and known.local.adaptive
    ):
        return None
    gradient = problem.mean_gradient()
    total = float(gradient[bias].abs().sum())
    if total > 2 * (1 + EXACT):
        return (
            f"the last layer's bias moved {total / 2:.2g} times as far as any images can move it "
            f"with {stated(problem)}: the learning rate or the number of steps was larger, or the "
            "update was scaled; an attack that compares directions still works, one that compares "
            "several steps or labels by counts does not"
        )
    rows = problem.parameters[weight]
    if known.num_images > 1 or len(problem.blocks) > 1 or rows.ndim != 2:
        return None
    if max(problem.rounding(weight), problem.rounding(bias)) > EXACT:
        return None
    residual, outer = gradient[bias], gradient[weight]
    features = outer.T @ residual / residual.square().sum()
    error = (outer - residual.outer(features)).norm() / outer.norm()
    if error > EXACT:
        return (
            "the last layer moved in more than one direction, so several images or steps are "
            "behind the update and not one image in one step: correct the number of images, "
            "epochs or the batch size"
        )
    expected = (rows @ features + problem.parameters[bias]).softmax(0)
    expected[residual.argmin()] -= 1
    ratio = float(residual @ expected / expected.square().sum())
    aligned = float(functional.cosine_similarity(residual, expected, dim=0))
    if aligned < 1 - EXACT or abs(math.log(max(ratio, 1e-30))) < math.log(1.2):
        return None
    return (
        f"the update is {ratio:.2g} times as long as its own image makes it with "
        f"{stated(problem)}: a learning rate of {known.local.lr * ratio:.2g} would fit"
        if known.local is not None
        else f"the gradient is {ratio:.2g} times as long as that of its own image: it was scaled"
    ) + "; an attack that compares directions still works"
