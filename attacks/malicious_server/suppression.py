"""Gradient suppression: a secure sum to which one client alone contributes a gradient.

Pasquini, Francati and Ateniese, "Eluding Secure Aggregation in Federated Learning via Model
Inconsistency" (CCS 2022, arXiv 2111.07380). The server is malicious: it sends its target the true
weights, and the other clients of the sum weights under which every ReLU is dead. Never mix results
with those of an honest-but-curious server.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attacks.gradients import batch_gradient
from attacks.knowledge import LocalSGD
from attacks.payload import Payload

DEAD = -1 / 1024
"""Bias of every unit of the suppressed network. Any number below 0 will do beside weights of 0. It
adds up in a sum of float32, whose rounding error hides the target's bias if it is large."""

PROBES = 2
"""Number of random images on which a suppressed network is tried."""


@dataclass(frozen=True)
class Separated:
    """What a secure sum gives away about the target.

    Attributes:
        payload: The target's own gradient or weights, without those of ``contaminated``.
        share: Its share in the weighted mean, in (0, 1].
    """

    payload: Payload
    share: float


def suppress(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Change all weights so that no image sends a gradient back, but to the last layer's bias.

    Every bias but the last is ``DEAD`` and everything else 0, scales of normalisation layers
    included. A ReLU then has the output and the derivative 0 for every image, so the features of
    the last layer are 0 and its weights get no gradient either. Its bias does: the gradient is the
    mean of softmax(bias) - label. Nothing else changes in any number of steps, but by weight decay.

    The authors keep the weights and make biases so low that units die on all images they expect;
    weights of 0 need no expectation, and nothing of them is left to subtract from the sum.

    Args:
        parameters: Parameters of the network by name, in the order of the layers; they stay
            unchanged.

    Returns:
        All parameters by name; the last bias is the given one.
    """
    last = contaminated(parameters)
    return {
        name: tensor.detach()
        if name in last
        else torch.full_like(tensor, DEAD if name.endswith("bias") else 0.0)
        for name, tensor in parameters.items()
    }


def contaminated(parameters: Mapping[str, Tensor]) -> frozenset[str]:
    """Name of the one parameter whose sum holds gradients of suppressed clients: the last bias.

    Args:
        parameters: Parameters of the network by name, in the order of the layers.

    Returns:
        One name; none if the last layer has no bias.
    """
    *_, last = parameters
    return frozenset([last] if parameters[last].ndim == 1 else [])


def check_suppression(
    model: nn.Module, *, shape: tuple[int, int, int], generator: torch.Generator
) -> None:
    """Try whether a network can be suppressed, on random images.

    Args:
        model: The network, in the mode of the clients; it stays unchanged.
        shape: Channels, height and width of an image.
        generator: CPU generator of the images.

    Raises:
        ValueError: If a gradient is left anywhere but in the bias of the last layer.
    """
    parameters = {name: tensor.detach() for name, tensor in model.named_parameters()}
    images = torch.randn((PROBES, *shape), generator=generator)
    gradient = batch_gradient(
        model,
        suppress(parameters),
        dict(model.named_buffers()),
        images.to(next(iter(parameters.values()))),
        torch.zeros(PROBES, dtype=torch.int64, device=next(iter(parameters.values())).device),
    )
    spared = contaminated(parameters)
    left = [name for name, tensor in gradient.items() if name not in spared and tensor.any()]
    if left:
        raise ValueError(
            f"the network cannot be suppressed: {left[0]} has a gradient although weights are 0 "
            "and all biases but the last negative, which needs ReLU before the last layer"
        )


def separate(
    payload: Payload,
    global_state: Mapping[str, Tensor],
    *,
    local: LocalSGD,
    num_images: int,
    single_batch: bool,
    share: float | None = None,
) -> Separated:
    """Solve a secure sum for the update of the target.

    A sum of gradients holds the target's times its share n/N. A sum of weights is the mean

        m = s w + (1 - s) a

    of the target's weights w and those of suppressed clients, a, which are known: what was sent,
    shrunk by weight decay alone. Since w differs little from the global weights, the share s
    follows by least squares, and is rounded to whole images.

    Args:
        payload: The weighted mean of the clients' replies, of N = ``num_examples`` images.
        global_state: The true weights, which the target got, by name in the order of the layers.
        local: Local training that the clients were asked for; its decay must hold for all
            suppressed clients, with as many steps as the sum has.
        num_images: Number n of images behind the target's reply, as the server asked for them;
            only needed for a sum of gradients.
        single_batch: True if the target was asked for the gradient of one batch; in a sum of
            weights it is then one step of SGD along it.
        share: The target's share s, in (0, 1], where all clients of the sum count equally; its
            number of images is then taken for the mean of all. ``None`` if they count by images.

    Returns:
        The target's payload and its share.
    """
    total = payload.num_examples
    parameters = {name: global_state[name] for name in payload.tensors}
    names = [name for name in payload.tensors if name not in contaminated(parameters)]
    if payload.kind == "gradient":
        share = share or min(num_images, total) / total
        own = {name: payload.tensors[name] / share for name in names}
        return Separated(Payload("gradient", own, min(num_images, total), steps=1), share)
    faded = decay_factor(local, payload.steps)
    after = {name: faded * tensor.double() for name, tensor in suppress(parameters).items()}
    mean = {name: payload.tensors[name].double() for name in names}
    images = max(1, min(total, round(total * (share or _share(mean, parameters, after)))))
    share = share or images / total
    weights = {name: (mean[name] - (1 - share) * after[name]) / share for name in names}
    if single_batch:
        own = {name: ((parameters[name] - w) / local.lr).float() for name, w in weights.items()}
        return Separated(Payload("gradient", own, images, steps=1), share)
    own = {name: w.to(parameters[name]) for name, w in weights.items()}
    steps = min(payload.steps, local.steps(images))
    return Separated(Payload("weights", own, images, steps=steps), share)


def decay_factor(local: LocalSGD, steps: int) -> float:
    """Factor by which SGD scales a weight that has no gradient: its decay and FedProx' pull.

    Args:
        local: Local training.
        steps: Number of local steps.
    """
    weight, velocity = 1.0, 0.0
    for _ in range(steps):
        slope = local.weight_decay * weight + local.proximal_mu * (weight - 1)
        velocity = local.momentum * velocity + slope
        weight -= local.lr * velocity
    return weight


def _share(
    mean: Mapping[str, Tensor], start: Mapping[str, Tensor], after: Mapping[str, Tensor]
) -> float:
    """Least-squares solution s of mean - after = s (start - after), over all parameters."""
    along = norm = 0.0
    for name, tensor in mean.items():
        difference = start[name].double() - after[name]
        along += float(((tensor - after[name]) * difference).sum())
        norm += float(difference.square().sum())
    return along / norm
