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
from torch.func import functional_call
from torch.nn import functional

from attacks.knowledge import Knowledge
from attacks.payload import Payload
from attacks.reconstruction.modes import mode
from attacks.reconstruction.payload_consistency import Consistency
from attacks.reconstruction.problem import Problem

DRAWS = 6
"""Number of simulated clients with which the length of an update is compared."""

FLAT = 2.5
"""Kurtosis of an update's entries below which they are of nearly equal size. Measured over four
networks and three data sets: at least 7 after SGD, at most 2.3 after Adam with up to 8 steps, and 3
for Gaussian noise."""

FACTOR, KNOWN_FACTOR = 3.0, 2.0
"""Least ratio between the length of an update and the longest or shortest simulated one that is
reported, with noise and with public images."""

SPREADS = 2.0
"""Least distance from them in standard deviations of the simulated logarithms of lengths."""

UNDECIDED = 0.25
"""Largest mean confidence on surrogate images at which a network counts as untrained, so that no
image of the client can have a gradient near 0."""

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
    vector = _vector(problem.target)
    if knowledge.defenses or not vector.any() or not torch.isfinite(vector).all():
        return ()  # the attack itself refuses an update without direction
    with mode(model, training=knowledge.training_mode):
        found = [
            _sizes(problem),
            _still(problem, generator),
            _counters(problem, global_state, buffers or {}) or _norm_layers(problem, generator),
        ]
        # One wrong assumption upsets the checks that build on it.
        for check in (_last_layer, _length):
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


def _sizes(problem: Problem) -> str | None:
    """Whether the entries' sizes are those of the stated optimiser."""
    local = problem.knowledge.local
    sizes = _vector(problem.target).abs()
    sizes = sizes[sizes > 0]
    flat = bool(sizes.pow(4).mean() < FLAT * sizes.square().mean().square())
    if local is not None and local.adaptive:
        if flat or local.steps(problem.knowledge.num_images) > 1:
            return None
        return (
            f"the entries of the update differ in size as after SGD, and not as after one step of "
            f"{local.optimiser}, which moves all by nearly the learning rate: state SGD, whose "
            "updates leak more"
        )
    if not flat:
        return None
    return (
        f"the entries of the update have nearly the same size (median {float(sizes.median()):.1e}),"
        " as after Adam, AdamW or a rule that sends signs, and not as after SGD: state the "
        "optimiser, such as adam; an attack that takes them for SGD's finds little"
    )


def _still(problem: Problem, generator: torch.Generator) -> str | None:
    """Whether more of the update is exactly zero than in simulated updates."""
    local, captured = problem.knowledge.local, _vector(problem.target) == 0
    if local is not None and local.weight_decay * local.lr > 1e-5:  # far above rounding errors
        unmoved = float((captured & (_vector(problem.parameters).abs() > 1e-3)).float().mean())
        if unmoved > EXACT:
            return (
                f"{unmoved:.0%} of the weights did not move at all, though weight decay "
                f"{local.weight_decay:g} was stated, which moves each: state 0"
            )
        return None
    simulated = problem.simulate(*_surrogates(problem, generator), create_graph=False)
    expected = float((_vector(simulated) == 0).float().mean())
    if float(captured.float().mean()) < expected + STILL * (1 - expected):
        return None
    frozen = [
        name
        for name, tensor in problem.target.items()
        if not tensor.any() and simulated[name].any()
    ]
    return (
        f"{float(captured.float().mean()):.0%} of the update is exactly zero"
        + (f", {frozen[0]} entirely" if frozen else "")
        + f", against {expected:.0%} of a simulated one: it was pruned, or layers were frozen; an "
        "attack can still use the rest (mask nonzero)"
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
    images, labels = _surrogates(problem, generator)
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
            f"with {_stated(problem)}: the learning rate or the number of steps was larger, or the "
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
        f"{_stated(problem)}: a learning rate of {known.local.lr * ratio:.2g} would fit"
        if known.local is not None
        else f"the gradient is {ratio:.2g} times as long as that of its own image: it was scaled"
    ) + "; an attack that compares directions still works"


def _length(problem: Problem, generator: torch.Generator) -> str | None:
    """Whether the update is as long as those of simulated clients with other images.

    Images under random labels have the longest gradients. The shortest belong to images that the
    network already knows, so an update is called too short only beside public images with their own
    labels, or where the network is sure of nothing.
    """
    public = problem.knowledge.public
    captured = float(_vector(problem.target).norm().log())
    lengths, confidence = _simulated(problem, generator, own_labels=False)
    margin = math.log(KNOWN_FACTOR if public is not None else FACTOR)
    above = captured - float(lengths.max())
    below = captured - float(lengths.min())
    if below < 0 and public is not None and public.labels is not None:
        lengths, confidence = _simulated(problem, generator, own_labels=True)
        below = captured - float(lengths.min())
    elif confidence > UNDECIDED:
        below = 0.0
    slack = max(margin, SPREADS * float(lengths.std()))
    if not (above > slack or below < -slack):  # NaN as well
        return None
    return (
        f"the update is {math.exp(captured - float(lengths.median())):.2g} times as long as those "
        f"of simulated clients with {_stated(problem)}: the learning rate, the number of steps or "
        "images, or the optimiser is probably another; an attack that compares directions still "
        "works for one step, and misjudges several"
    )


def _simulated(
    problem: Problem, generator: torch.Generator, *, own_labels: bool
) -> tuple[Tensor, float]:
    """Logarithms of the lengths of simulated updates, and the mean confidence of the network."""
    lengths, confidence = [], 0.0
    for _ in range(DRAWS):
        images, labels = _surrogates(problem, generator, own_labels=own_labels)
        simulated = problem.simulate(images, labels, create_graph=False)
        lengths.append(_vector(simulated).detach().norm().log())
        confidence += _confidence(problem, images) / DRAWS
    return torch.stack(lengths), confidence


def _confidence(problem: Problem, images: Tensor) -> float:
    state = {**problem.parameters, **{n: b.clone() for n, b in problem.buffers.items()}}
    with torch.no_grad():
        output: Tensor = functional_call(problem.model, state, (images,))
    return float(output.softmax(1).amax(1).mean())


def _surrogates(
    problem: Problem, generator: torch.Generator, *, own_labels: bool = False
) -> tuple[Tensor, Tensor]:
    """Normalised images and labels as a client might have them."""
    known = problem.knowledge
    count, public = known.num_images, known.public
    labels = torch.randint(known.num_classes, (count,), generator=generator)
    if public is None:
        channels, height, width = known.image_shape
        coarse = (count, channels, max(2, height // 4), max(2, width // 4))
        pixels = functional.interpolate(
            torch.rand(coarse, generator=generator), size=(height, width), mode="bilinear"
        )
    else:
        places = torch.randint(len(public.images), (count,), generator=generator)
        pixels = public.images[places]
        if own_labels and public.labels is not None:
            labels = public.labels[places]
    if known.labels is not None and not own_labels:
        labels = known.labels
    return problem.normalise(pixels), labels.to(problem.device)


def _stated(problem: Problem) -> str:
    local, steps = problem.knowledge.local, len(problem.blocks)
    if problem.payload.kind == "gradient" or local is None:
        return "a plain gradient"
    return f"{local.optimiser}, learning rate {local.lr:g} and {steps} local step{'s'[: steps > 1]}"


def _vector(tensors: Mapping[str, Tensor]) -> Tensor:
    """All entries, as one vector in float64, because fourth powers of small ones underflow."""
    return torch.cat([tensor.flatten() for tensor in tensors.values()]).double()
