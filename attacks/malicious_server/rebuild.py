"""Reconstruction from payloads that a malicious server captured.

Images of an imprint block and of trap weights are read out directly. For class fishing, the
gradient of the fished images is separated here, and any attack of ``attacks.reconstruction`` works
on it.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from attacks.knowledge import Knowledge
from attacks.malicious_server.fishing import count_labels, isolate, last_layer
from attacks.malicious_server.gaussian_prior import GaussianPrior
from attacks.malicious_server.imprint import BLOCK, THRESHOLD, read_out
from attacks.malicious_server.noisy_traps import Found, TrapLayer, read_noisy
from attacks.malicious_server.passed_image import first_linear
from attacks.malicious_server.traps import read_caught
from attacks.payload import Payload
from attacks.reconstruction.modes import mode
from attacks.reconstruction.presets import AttackSettings
from attacks.reconstruction.problem import Problem
from attacks.reconstruction.result import Reconstruction

READ_OUT = AttackSettings(
    method="analytic",
    source="Fowl et al. 2022 (arXiv 2110.13057): differences of neighbouring rows, no optimisation",
)
"""Attack settings of a read-out, which has no options."""

READ_CAUGHT = AttackSettings(
    method="analytic",
    source="Boenisch et al. 2023 (arXiv 2112.02918), Nowak et al. 2024 (arXiv 2406.18745): ratios "
    "of the gradients of weights and biases, no optimisation",
)
"""Attack settings of a read-out of trap weights, which has no options."""


def read_imprints(
    model: nn.Module,
    global_state: Mapping[str, Tensor],
    payload: Payload,
    knowledge: Knowledge,
) -> Reconstruction:
    """Read the images out of a payload of a network with an imprint block.

    An image that is alone in its bin is exact for a gradient and for the weights after one local
    step; over several steps the rows of the block drift apart. The label of an image is the one
    whose loss explains the gradient of its bin, so the attacker need not know labels.

    Args:
        model: Network with the imprint block, from ``imprint``; it stays unchanged.
        global_state: Parameters and buffers that the client started from, by name.
        payload: Payload that the client sent.
        knowledge: Knowledge of the attacker; labels are not used.

    Returns:
        At most ``knowledge.num_images`` images, those nearest their pixel range first; fewer if
        fewer bins contain an image.

    Raises:
        ValueError: If payload and network do not fit each other, or have no imprint block.
    """
    started = time.perf_counter()
    problem = Problem.of(model, global_state, payload, knowledge)
    low, high = problem.pixel_range
    shape = knowledge.image_shape
    gradient, threshold = problem.mean_gradient(), THRESHOLD
    if f"{BLOCK}.measure.bias" in problem.target:
        # Bins with no more than the rounding error are empty.
        threshold = max(threshold, problem.rounding(f"{BLOCK}.measure.bias"))
    found = read_out(gradient, shape=shape, low=low, high=high, threshold=threshold)
    images = found.images[: knowledge.num_images]
    with mode(model, training=knowledge.training_mode):
        # Every image activates the first unit, so its derivative is the share of each of its bins.
        first = torch.zeros_like(found.bins)
        labels = _labels(problem, f"{BLOCK}.measure", images, first, found.shares)
    return _without_a_search(problem, images, labels, started, READ_OUT)


def read_traps(
    model: nn.Module,
    global_state: Mapping[str, Tensor],
    payload: Payload,
    knowledge: Knowledge,
    *,
    adapt: bool = True,
) -> Reconstruction:
    """Read the images out of a payload of a client that was sent trap weights.

    An image that is alone in activating a unit is exact for a gradient and for the weights after
    one local step; over several steps, images of all steps meet in a unit. The label of an image is
    the one whose loss explains the gradient of its unit, so the attacker need not know labels.
    Under Gaussian noise of known deviation, images are estimated from all units together.

    Args:
        model: The network; it stays unchanged.
        global_state: Parameters and buffers that the client started from, by name.
        payload: Payload that the client sent, or the sum of several clients.
        knowledge: Knowledge of the attacker; labels are not used.
        adapt: Adapt the read-out to noise, which it otherwise takes for a part of the images.

    Returns:
        At most ``knowledge.num_images`` images, those nearest to images of 8 bits first, or under
        noise those that explain most of the gradient; fewer if fewer were caught.

    Raises:
        ValueError: If payload and network do not fit each other.
    """
    started = time.perf_counter()
    problem = Problem.of(model, global_state, payload, knowledge)
    low, high = problem.pixel_range
    layer = first_linear(model)
    with mode(model, training=knowledge.training_mode):
        if adapt and problem.noise:
            noisy = _read_noisy(problem, layer)
            return _without_a_search(problem, noisy.images, noisy.labels, started, READ_CAUGHT)
        found = read_caught(
            model,
            {**problem.parameters, **problem.buffers},
            problem.mean_gradient(),
            shape=knowledge.image_shape,
            low=low,
            high=high,
            threshold=max(THRESHOLD, problem.rounding(f"{layer}.bias")),
        )
        images = found.images[: knowledge.num_images]
        labels = _labels(problem, layer, images, found.units, found.shares)
    return _without_a_search(problem, images, labels, started, READ_CAUGHT)


def _read_noisy(problem: Problem, layer: str) -> Found:
    known, gradient = problem.knowledge, problem.mean_gradient()
    weight, bias = (gradient[f"{layer}.{kind}"].detach() for kind in ("weight", "bias"))
    none = bias.new_zeros((0, *known.image_shape))
    low, high = problem.pixel_range
    sent = TrapLayer(
        problem.model,
        {**problem.parameters, **problem.buffers},
        layer,
        shape=known.image_shape,
        classes=known.num_classes,
        low=low,
        high=high,
        prior=GaussianPrior.of(
            none if known.public is None else problem.normalise(known.public.images)
        ),
    )
    rounded = problem.rounding(f"{layer}.weight") * float(weight.abs().max())
    return read_noisy(
        sent,
        torch.cat([weight, bias[:, None]], dim=1),
        deviation=math.hypot(problem.noise, rounded),
        most=known.num_images,
    )


def single_out(
    global_state: Mapping[str, Tensor], payload: Payload, knowledge: Knowledge, *, target: int
) -> tuple[Payload, Knowledge]:
    """Separate the gradient of the fished images, for a reconstruction attack on them.

    Their number follows exactly from the bias of the last layer. With a defense, or without a bias,
    a single image is assumed.

    Args:
        global_state: The fished parameters that the client started from, by name.
        payload: Payload that the client sent: a gradient, or weights after one local step.
        knowledge: Knowledge of the whole batch; labels are not used.
        target: Class that the server fished for.

    Returns:
        The gradient of the mean loss of those images, and the knowledge of their number and labels.

    Raises:
        ValueError: If the client took several local steps, so that not all gradients are at the
            sent parameters, or the last layer is not linear or lacks the class.
    """
    gradient = _first_gradient(global_state, payload, knowledge)
    weight, bias = last_layer(gradient)
    apart = isolate(gradient, weight=weight, bias=bias, target=target)
    count = 1
    if bias is not None and not knowledge.defenses:
        seen = count_labels(gradient[bias], target=target, num_images=payload.num_examples)
        count = max(1, min(int(seen[target]), payload.num_examples))
    mean = {name: tensor * (payload.num_examples / count) for name, tensor in apart.items()}
    labels = torch.full((count,), target, device=mean[weight].device)
    return (
        Payload("gradient", mean, num_examples=count, steps=1),
        replace(knowledge, num_images=count, labels=labels, local=None, order="sequential"),
    )


def _first_gradient(
    global_state: Mapping[str, Tensor], payload: Payload, knowledge: Knowledge
) -> dict[str, Tensor]:
    """Return the gradient at the global parameters."""
    if payload.kind == "gradient":
        return dict(payload.tensors)
    if payload.steps > 1 or knowledge.local is None:
        raise ValueError(
            f"class fishing needs a gradient at the weights that were sent, but the client took "
            f"{payload.steps} local steps"
        )
    lr = knowledge.local.lr
    decay = knowledge.local.decay_factor(global_state[name] for name in payload.tensors)
    return {
        name: (global_state[name] - after) / lr - decay * global_state[name]
        for name, after in payload.tensors.items()
    }


def _without_a_search(
    problem: Problem, images: Tensor, labels: Tensor, started: float, attack: AttackSettings
) -> Reconstruction:
    return Reconstruction(
        images=problem.pixels(images),
        labels=labels,
        labels_known=False,
        cost=0.0,
        costs=torch.zeros(0),
        restart=0,
        seconds=time.perf_counter() - started,
        attack=attack,
    )


def _labels(problem: Problem, layer: str, images: Tensor, units: Tensor, shares: Tensor) -> Tensor:
    """Return the labels whose loss explains the derivatives by an image's unit, int64 ``[n]``."""
    num_classes = problem.knowledge.num_classes
    if not len(images):
        return torch.zeros(0, dtype=torch.int64, device=images.device)
    offset = images.new_zeros(len(images), requires_grad=True)

    def shift(_: nn.Module, __: tuple[Tensor, ...], outputs: Tensor) -> Tensor:
        return outputs.scatter_add(1, units[: len(images), None], offset.unsqueeze(1))

    hook = problem.model.get_submodule(layer).register_forward_hook(shift)
    try:
        state = {**problem.parameters, **{n: b.clone() for n, b in problem.buffers.items()}}
        outputs: Tensor = functional_call(problem.model, state, (images,))
    finally:
        hook.remove()
    every = torch.arange(num_classes, device=images.device)
    expected = [
        torch.autograd.grad(
            functional.cross_entropy(outputs, label.expand(len(images)), reduction="sum"),
            offset,
            retain_graph=True,
        )[0]
        for label in every
    ]
    share = shares[: len(images)] * problem.payload.num_examples
    return (torch.stack(expected, dim=1) - share.unsqueeze(1)).abs().argmin(1)
