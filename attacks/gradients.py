"""Differentiable simulation of a client: gradients and local SGD for given images.

Everything is a pure function of named tensors, so the attacker's network is never changed and the
result can be differentiated with respect to the images.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.checkpoint import checkpoint

from attacks.knowledge import LocalSGD

Tensors = Mapping[str, Tensor]

KEPT_STEPS = 8
"""Largest number of local steps whose activations are stored for the backward pass; with more steps
they are recomputed."""

OPACUS_EPSILON = 1e-6
"""Added to a norm before a division by it, as Opacus does when it clips."""


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
        parameters: Parameters by name; those that do not require grad are detached and set to.
        buffers: Buffers by name; they are not changed, even in training mode.
        images: float ``[b, channels, height, width]``, normalised.
        labels: int64 ``[b]`` or soft ``[b, classes]``.
        create_graph: Keep the graph, so that the result can be differentiated again.

    Returns:
        One tensor per parameter, by name.
    """
    leaves = _leaves(parameters)
    state = {**leaves, **{name: buffer.clone() for name, buffer in buffers.items()}}
    with twice_differentiable(model) if create_graph else nullcontext():
        loss = functional.cross_entropy(functional_call(model, state, (images,)), labels)
        gradients = torch.autograd.grad(
            loss, list(leaves.values()), create_graph=create_graph, allow_unused=True
        )
    return {
        name: torch.zeros_like(leaf) if gradient is None else gradient
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True)
    }


@contextmanager
def twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Choose kernels that have a second derivative, within the block and in all threads.

    PyTorch's fused attention and cuDNN's recurrent layers have none.

    Args:
        model: Network that is called in the block.
    """
    if not torch.backends.cuda.flash_sdp_enabled():  # type: ignore[no-untyped-call]
        yield  # in an outer block already, where most steps of an attack are
        return
    recurrent = any(isinstance(layer, nn.RNNBase) for layer in model.modules())
    cudnn = torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext()
    with sdpa_kernel(SDPBackend.MATH), cudnn:
        yield


def clipped_gradient(
    model: nn.Module,
    parameters: Tensors,
    buffers: Tensors,
    images: Tensor,
    labels: Tensor,
    *,
    clipping_norm: float,
    batch_size: int | None = None,
    create_graph: bool = False,
) -> dict[str, Tensor]:
    """Mean of per-example gradients, each clipped to an L2 norm: DP-SGD without its noise.

    Abadi et al. 2016, algorithm 1.

    Args:
        model: The architecture, in the mode that the client used.
        parameters: Parameters by name.
        buffers: Buffers by name; they are not changed.
        images: float ``[b, channels, height, width]``, normalised; an empty batch gives zeros.
        labels: int64 ``[b]`` or soft ``[b, classes]``.
        clipping_norm: Largest L2 norm of the gradient of one example.
        batch_size: Number by which the sum is divided: the expected size of a Poisson batch; the
            number of images if ``None``.
        create_graph: Keep the graph, so that the result can be differentiated again.

    Returns:
        One tensor per parameter, by name.
    """
    size = len(images) if batch_size is None else batch_size
    total = {} if len(images) else {name: torch.zeros_like(p) for name, p in parameters.items()}
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
        factor = (clipping_norm / (norm + OPACUS_EPSILON)).clamp(max=1.0) / size
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
    blocks: Sequence[Tensor] | None = None,
    clipping_norm: float | None = None,
    batch_size: int | None = None,
    softness: float = 0.0,
    create_graph: bool = False,
) -> dict[str, Tensor]:
    """Parameters after local training on the images, with the arithmetic of ``torch.optim``.

    The local optimiser is SGD, Adam or AdamW, with an empty state.

    With more than ``KEPT_STEPS`` steps the backward pass recomputes each step, so that memory grows
    by the weights of a step only and not by its activations.

    Args:
        model: The architecture, in the mode that the client used.
        parameters: The global parameters by name.
        buffers: Buffers by name; they are not changed.
        images: float ``[n, channels, height, width]``, normalised.
        labels: int64 ``[n]`` or soft ``[n, classes]``.
        local: Local training of the client.
        blocks: Indices of the images of each step, int64; ``local.blocks`` if ``None``.
        clipping_norm: Clipping norm of DP-SGD for each step; ``None`` without DP-SGD.
        batch_size: Number by which a clipped sum is divided; see ``clipped_gradient``.
        softness: Added to the denominator of Adam's steps, in units of its root mean square over
            the tensor. 0 is exact, but then a step is nearly a sign, whose derivative with respect
            to the images is 0 almost everywhere.
        create_graph: Keep the graph, so that the result can be differentiated with respect to the
            images.

    Returns:
        The new parameters by name.
    """
    names = tuple(parameters)

    def step(count: int, block: Tensor, targets: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        current = dict(zip(names, state, strict=False))
        memory = state[len(names) :]
        gradient = gradient_of(
            model,
            current,
            buffers,
            block,
            targets,
            clipping_norm=clipping_norm,
            batch_size=batch_size,
            create_graph=create_graph,
        )
        moved = tuple(gradient.values())
        if local.proximal_mu:  # the gradient of mu/2 ||w - w_global||^2 (Li et al. 2020, eq. 2)
            drift = (current[n] - parameters[n] for n in names)
            moved = tuple(m + local.proximal_mu * d for m, d in zip(moved, drift, strict=True))
        weights = tuple(current.values())
        if local.adaptive:
            return _adam_step(local, count, softness, weights, moved, memory)
        return _sgd_step(local, weights, moved, memory)

    blocks = local.blocks(len(images)) if blocks is None else blocks
    # The state of random generators cannot be read while a CUDA graph is captured.
    random = any(isinstance(layer, _DropoutNd) for layer in model.modules())
    remember = not create_graph or len(blocks) <= KEPT_STEPS
    state = tuple(parameters.values())
    for count, places in enumerate(blocks, start=1):
        places = places.to(images.device)
        batch = (count, images[places], labels[places])
        if remember:
            state = step(*batch, *state)
        else:
            state = checkpoint(step, *batch, *state, use_reentrant=False, preserve_rng_state=random)
    return dict(zip(names, state, strict=False))


def _sgd_step(
    local: LocalSGD,
    weights: tuple[Tensor, ...],
    gradient: tuple[Tensor, ...],
    velocity: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    """Weights after a step of SGD, and the velocity of momentum where there is one."""
    decay = local.decay_factor(weights)
    moved = tuple(g + decay * w for w, g in zip(weights, gradient, strict=True))
    if velocity:
        moved = tuple(local.momentum * v + g for v, g in zip(velocity, moved, strict=True))
    after = tuple(w - local.lr * m for w, m in zip(weights, moved, strict=True))
    return (*after, *moved) if local.momentum else after


def _adam_step(
    local: LocalSGD,
    count: int,
    softness: float,
    weights: tuple[Tensor, ...],
    gradient: tuple[Tensor, ...],
    memory: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    """Weights after step number ``count`` of Adam or AdamW, and the two running means.

    Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2.
    """
    first, second = local.betas
    rate = local.lr / (1 - first**count)
    scale = (1 - second**count) ** 0.5
    decay = local.decay_factor(weights)
    if local.optimiser == "adamw":
        weights = tuple(w * (1 - local.lr * decay) for w in weights)
    else:
        gradient = tuple(g + decay * w for w, g in zip(weights, gradient, strict=True))
    if not memory:
        memory = tuple(torch.zeros_like(g) for g in gradient * 2)
    half = len(gradient)
    means = tuple(m.lerp(g, 1 - first) for m, g in zip(memory[:half], gradient, strict=True))
    squares = tuple(
        second * v + (1 - second) * g.square() for v, g in zip(memory[half:], gradient, strict=True)
    )
    scales = tuple(_root(v) / scale for v in squares)
    extra = tuple(softness * s.detach().square().mean().sqrt() if softness else 0.0 for s in scales)
    after = tuple(
        w - rate * m / (s + (local.eps + e))
        for w, m, s, e in zip(weights, means, scales, extra, strict=True)
    )
    return (*after, *means, *squares)


def _root(square: Tensor) -> Tensor:
    """Square root whose derivative at 0 is 0, where that of ``sqrt`` is infinite."""
    positive = square > 0
    return torch.where(positive, square, 1).sqrt() * positive


def gradient_of(
    model: nn.Module,
    parameters: Tensors,
    buffers: Tensors,
    images: Tensor,
    labels: Tensor,
    *,
    clipping_norm: float | None,
    batch_size: int | None,
    create_graph: bool,
) -> dict[str, Tensor]:
    """Gradient that a client computes, clipped per example if it runs DP-SGD.

    Args:
        model: The architecture, in the mode that the client used.
        parameters: Parameters by name.
        buffers: Buffers by name.
        images: float ``[b, channels, height, width]``, normalised.
        labels: int64 ``[b]`` or soft ``[b, classes]``.
        clipping_norm: Clipping norm of DP-SGD; ``None`` without DP-SGD.
        batch_size: Number by which a clipped sum is divided; see ``clipped_gradient``.
        create_graph: Keep the graph, so that the result can be differentiated again.
    """
    if clipping_norm is None:
        return batch_gradient(model, parameters, buffers, images, labels, create_graph=create_graph)
    return clipped_gradient(
        model,
        parameters,
        buffers,
        images,
        labels,
        clipping_norm=clipping_norm,
        batch_size=batch_size,
        create_graph=create_graph,
    )


def _leaves(parameters: Tensors) -> dict[str, Tensor]:
    """Parameters with ``requires_grad``; results of earlier steps already have it."""
    return {
        name: p if p.requires_grad else p.detach().requires_grad_()
        for name, p in parameters.items()
    }
