"""What an update shows about single images: the direction it went, and where each image pulls.

Both are flat vectors over all parameters, so that their products are plain matrix products.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from attacks.gradients import OPACUS_EPSILON, Tensors
from attacks.payload import Payload

TOGETHER = 64
"""Images whose gradients are computed at once: more do not make it faster."""


def descent(payload: Payload, parameters: Tensors, *, lr: float) -> Tensor:
    """The sum of the gradients that a client followed.

    Args:
        payload: Of one client, or of several together.
        parameters: Global ones of the round, by name.
        lr: Learning rate of the round; a gradient is taken as it is.

    Returns:
        float32 ``[d]``, in the order of ``parameters``.

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
    """Gradient of each image's own cross-entropy.

    Args:
        model: Each image is its own batch, so BatchNorm must be in evaluation mode.
        parameters: By name.
        buffers: By name.
        images: float ``[n, channels, height, width]``, normalised.
        labels: int64 ``[n]``.
        clipping_norm: Of DP-SGD, by which a client shortens them; not at all unless given.

    Returns:
        float32 ``[n, d]``, in the order of ``parameters``.
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
