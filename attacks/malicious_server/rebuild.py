"""What a malicious server makes of a captured payload, in the terms of ``attacks.reconstruction``.

An imprint is read out at once. A fished gradient is that of a batch of its own: it is cut out
here, and any attack rebuilds its images from there.
"""

import time
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from attacks.knowledge import Knowledge
from attacks.malicious_server.fishing import count_labels, isolate, last_layer
from attacks.malicious_server.imprint import BLOCK, THRESHOLD, Imprints, read_out
from attacks.payload import Payload
from attacks.reconstruction.modes import mode
from attacks.reconstruction.presets import AttackSettings
from attacks.reconstruction.problem import Problem
from attacks.reconstruction.result import Reconstruction

READ_OUT = AttackSettings(
    method="analytic",
    source="Fowl et al. 2022 (arXiv 2110.13057): differences of neighbouring rows, no optimisation",
)
"""The settings of a read-out: there are none."""


def read_imprints(
    model: nn.Module,
    global_state: Mapping[str, Tensor],
    payload: Payload,
    knowledge: Knowledge,
) -> Reconstruction:
    """The images that a payload of a network with an imprint block holds.

    Exact for a gradient and for the weights after one local step, where an image is alone in its
    bin. Over several steps the rows of the block drift apart, and so do the images. Each label is
    the one for which the image would have sent what its bin holds: the network is known and the
    image as well, so nothing has to be granted.

    Args:
        model: What ``attacks.malicious_server.imprint.imprint`` returned; left as it is found.
        global_state: Parameters and buffers that the client started from, by name.
        payload: What it sent.
        knowledge: Its labels are not used.

    Returns:
        At most ``knowledge.num_images`` images, those nearest their pixel range first; fewer, or
        none, where fewer bins were hit.

    Raises:
        ValueError: If payload and network do not fit, or have no imprint block.
    """
    started = time.perf_counter()
    problem = Problem.of(model, global_state, payload, knowledge)
    low, high = problem.pixel_range
    shape = knowledge.image_shape
    gradient, threshold = problem.mean_gradient(), THRESHOLD
    if f"{BLOCK}.measure.bias" in problem.target:
        # Bins that hold no more than what rounding leaves are empty.
        threshold = max(threshold, problem.rounding(f"{BLOCK}.measure.bias"))
    found = read_out(gradient, shape=shape, low=low, high=high, threshold=threshold)
    images = found.images[: knowledge.num_images]
    with mode(model, training=knowledge.training_mode):
        labels = _labels(problem, found, images)
    return Reconstruction(
        images=problem.pixels(images),
        labels=labels,
        labels_known=False,
        cost=0.0,
        costs=torch.zeros(0),
        restart=0,
        seconds=time.perf_counter() - started,
        attack=READ_OUT,
    )


def single_out(
    global_state: Mapping[str, Tensor], payload: Payload, knowledge: Knowledge, *, target: int
) -> tuple[Payload, Knowledge]:
    """The gradient of the fished images alone, and what is known of them, for ``invert``.

    How many there are is read off the bias of the last layer, exactly where no defense was
    announced; otherwise, or without a bias, a single one is assumed.

    Args:
        global_state: The fished parameters that the client started from, by name.
        payload: What it sent: a gradient, or weights after one local step.
        knowledge: Of the whole batch; its labels are not used.
        target: The class that was fished for.

    Returns:
        A gradient of the mean loss of those images, and their number and labels.

    Raises:
        ValueError: If the client took several local steps, which no longer are at the parameters
            that it was sent, or its last layer is not a linear one with such a class.
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
    """The gradient at the global parameters."""
    if payload.kind == "gradient":
        return dict(payload.tensors)
    if payload.steps > 1 or knowledge.local is None:
        raise ValueError(
            f"class fishing needs a gradient at the weights that were sent, but the client took "
            f"{payload.steps} local steps"
        )
    lr, decay = knowledge.local.lr, knowledge.local.weight_decay
    return {
        name: (global_state[name] - after) / lr - decay * global_state[name]
        for name, after in payload.tensors.items()
    }


def _labels(problem: Problem, found: Imprints, images: Tensor) -> Tensor:
    """int64 ``[n]``: the label whose loss would have left the share that the image's bin holds."""
    num_classes = problem.knowledge.num_classes
    if not len(images):
        return torch.zeros(0, dtype=torch.int64, device=images.device)
    offset = images.new_zeros(len(images), requires_grad=True)

    def shift(_: nn.Module, __: tuple[Tensor, ...], units: Tensor) -> Tensor:
        # Every image reaches the first unit, so its derivative is what each of its bins gets.
        return torch.cat([units[:, :1] + offset.unsqueeze(1), units[:, 1:]], dim=1)

    hook = problem.model.get_submodule(f"{BLOCK}.measure").register_forward_hook(shift)
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
    share = found.shares[: len(images)] * problem.payload.num_examples
    return (torch.stack(expected, dim=1) - share.unsqueeze(1)).abs().argmin(1)
