"""What a client would send for given images, differentiably: gradients and local SGD.

Everything is a pure function of named tensors, so the attacker's network is never changed
and the result can be differentiated with respect to the images.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from attacks.knowledge import LocalSGD

Tensors = Mapping[str, Tensor]

OPACUS_EPSILON = 1e-6
"""Added to a norm before dividing by it, as Opacus does when it clips."""


def batch_gradient(
    model: nn.Module,
    parameters: Tensors,
    buffers: Tensors,
    images: Tensor,
    labels: Tensor,
    *,
    create_graph: bool = False,
) -> dict[str, Tensor]:
    """Gradient of the mean cross-entropy of a batch.

    Args:
        model: The architecture, in the mode that the client used.
        parameters: By name; those not requiring grad are made to.
        buffers: By name; never changed, even in training mode.
        images: float ``[b, channels, height, width]``, normalised.
        labels: int64 ``[b]`` or soft ``[b, classes]``.
        create_graph: Whether the result can be differentiated again.

    Returns:
        One tensor per parameter, by name.
    """
    leaves = _leaves(parameters)
    state = {**leaves, **{name: buffer.clone() for name, buffer in buffers.items()}}
    loss = functional.cross_entropy(functional_call(model, state, (images,)), labels)
    gradients = torch.autograd.grad(
        loss, list(leaves.values()), create_graph=create_graph, allow_unused=True
    )
    return {
        name: torch.zeros_like(leaf) if gradient is None else gradient
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True)
    }


def clipped_gradient(
    model: nn.Module,
    parameters: Tensors,
    buffers: Tensors,
    images: Tensor,
    labels: Tensor,
    *,
    clipping_norm: float,
    create_graph: bool = False,
) -> dict[str, Tensor]:
    """Mean of per-example gradients, each clipped to an L2 norm: DP-SGD without its noise.

    Abadi et al. 2016, algorithm 1. Arguments and result as for ``batch_gradient``.
    """
    total: dict[str, Tensor] = {}
    for index in range(len(images)):
        one = batch_gradient(
            model,
            parameters,
            buffers,
            images[index : index + 1],
            labels[index : index + 1],
            create_graph=create_graph,
        )
        norm = torch.sqrt(torch.stack([g.square().sum() for g in one.values()]).sum())
        factor = (clipping_norm / (norm + OPACUS_EPSILON)).clamp(max=1.0) / len(images)
        for name, gradient in one.items():
            part = factor * gradient
            total[name] = total[name] + part if name in total else part
    return total


def unroll(
    model: nn.Module,
    parameters: Tensors,
    buffers: Tensors,
    images: Tensor,
    labels: Tensor,
    *,
    local: LocalSGD,
    clipping_norm: float | None = None,
    create_graph: bool = False,
) -> dict[str, Tensor]:
    """Parameters after local SGD on the images, in the order in which they are given.

    Each epoch goes over the images in blocks of ``local.batch_size``; the arithmetic is that
    of ``torch.optim.SGD``.

    Args:
        model: The architecture, in the mode that the client used.
        parameters: The global parameters by name.
        buffers: By name; never changed.
        images: float ``[n, channels, height, width]``, normalised.
        labels: int64 ``[n]`` or soft ``[n, classes]``.
        local: The client's training.
        clipping_norm: If given, each step uses ``clipped_gradient``.
        create_graph: Whether the result can be differentiated with respect to the images.

    Returns:
        The new parameters by name.
    """
    current = dict(parameters)
    velocity: dict[str, Tensor] = {}
    for _ in range(local.epochs):
        for block, targets in zip(
            torch.split(images, local.batch_size),
            torch.split(labels, local.batch_size),
            strict=True,
        ):
            step = gradient_of(
                model,
                current,
                buffers,
                block,
                targets,
                clipping_norm=clipping_norm,
                create_graph=create_graph,
            )
            if local.weight_decay:
                step = {n: g + local.weight_decay * current[n] for n, g in step.items()}
            if local.momentum:
                velocity = {
                    n: local.momentum * velocity[n] + g if n in velocity else g
                    for n, g in step.items()
                }
                step = velocity
            current = {n: p - local.lr * step[n] for n, p in current.items()}
    return current


def gradient_of(
    model: nn.Module,
    parameters: Tensors,
    buffers: Tensors,
    images: Tensor,
    labels: Tensor,
    *,
    clipping_norm: float | None,
    create_graph: bool,
) -> dict[str, Tensor]:
    """The gradient that a client computes, clipped per example if it runs DP-SGD."""
    if clipping_norm is None:
        return batch_gradient(model, parameters, buffers, images, labels, create_graph=create_graph)
    return clipped_gradient(
        model,
        parameters,
        buffers,
        images,
        labels,
        clipping_norm=clipping_norm,
        create_graph=create_graph,
    )


def _leaves(parameters: Tensors) -> dict[str, Tensor]:
    """Parameters that autograd can differentiate by; results of earlier steps already are."""
    return {
        name: p if p.requires_grad else p.detach().requires_grad_()
        for name, p in parameters.items()
    }
