"""The direction of an update and the gradients of single images, as flat vectors.

Flat vectors over all parameters make their products plain matrix products.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from attacks.gradients import OPACUS_EPSILON, Tensors
from attacks.payload import Payload

TOGETHER = 64
"""Number of images whose gradients are computed at once; more are not faster."""


def descent(payload: Payload, parameters: Tensors, *, lr: float) -> Tensor:
    """Return the sum of the gradients that a client followed.

    Args:
        payload: Payload of one client, or of several together.
        parameters: Global parameters of the round by name.
        lr: Learning rate of the round; not used for a gradient.

    Returns:
        One vector in the order of ``parameters``, float32 ``[d]``.

    Raises:
        ValueError: If the payload has other parameters.
    """
    if payload.tensors.keys() != parameters.keys():
        raise ValueError("the payload and the global model have different parameters")
    if payload.kind == "gradient":
        return torch.cat([payload.tensors[name].flatten() for name in parameters])
    moved = [(p - payload.tensors[name]).flatten() for name, p in parameters.items()]
    return torch.cat(moved).detach() / lr


def example_gradients(
    model: nn.Module,
    parameters: Tensors,
    buffers: Tensors,
    images: Tensor,
    labels: Tensor,
    *,
    clipping_norm: float | None = None,
) -> Tensor:
    """Return the gradient of the cross-entropy of each image.

    Args:
        model: Network; each image is a batch of its own, so BatchNorm must be in evaluation mode.
        parameters: Parameters of the network by name.
        buffers: Buffers of the network by name.
        images: Images, float ``[n, channels, height, width]``, normalised.
        labels: Class of each image, int64 ``[n]``.
        clipping_norm: Clipping norm of the client's DP-SGD; ``None`` for no clipping.

    Returns:
        One row for each image in the order of ``parameters``, float32 ``[n, d]``.
    """
    fixed = {name: p.detach() for name, p in parameters.items()}

    def loss(state: Mapping[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, {**state, **buffers}, (image.unsqueeze(0),))
        return functional.cross_entropy(logits, label.unsqueeze(0))

    each = vmap(grad(loss), in_dims=(None, 0, 0), chunk_size=TOGETHER)(fixed, images, labels)
    rows = torch.cat([each[name].flatten(1) for name in fixed], dim=1)
    if clipping_norm is None:
        return rows
    norms = rows.norm(dim=1, keepdim=True)
    factors: Tensor = (clipping_norm / (norms + OPACUS_EPSILON)).clamp(max=1.0)
    return rows * factors
