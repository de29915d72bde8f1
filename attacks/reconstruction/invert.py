"""Rebuild a client's images from its gradient or weight update.

Geiping et al., "Inverting Gradients: How easy is it to break privacy in federated
learning?" (NeurIPS 2020, arXiv 2003.14053).
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from attacks.gradients import gradient_of, unroll
from attacks.knowledge import Knowledge
from attacks.payload import Payload
from attacks.reconstruction.labels import infer_labels
from attacks.reconstruction.objectives import OBJECTIVES, Objective
from attacks.reconstruction.presets import Attack
from attacks.reconstruction.priors import total_variation
from attacks.reconstruction.result import Reconstruction
from attacks.reconstruction.steps import SignedAdam

PROBES = 64
"""Random images whose mean output stands in for that of the client's images."""

Simulate = Callable[[Tensor, Tensor], dict[str, Tensor]]
"""From normalised images and labels to the payload that a client would send for them."""


@dataclass(frozen=True)
class _Outcome:
    cost: float
    images: Tensor
    costs: Tensor
    restart: int


def invert(
    model: nn.Module,
    global_state: Mapping[str, Tensor],
    payload: Payload,
    knowledge: Knowledge,
    attack: Attack,
    *,
    generator: torch.Generator,
) -> Reconstruction:
    """Rebuild the images behind a payload.

    Minimises 1 - cos(simulated, captured) + tv * TV(x) over images in the pixel box
    (Geiping et al. 2020, eq. 4; section 6 for weight updates). Of all iterates the one with
    the lowest matching cost is returned.

    Args:
        model: The architecture, on the device to compute on; left as it is found.
        global_state: Parameters and buffers that the client started from, by name.
        payload: What it sent.
        knowledge: What else is assumed to be known.
        attack: Settings.
        generator: CPU generator of the starting images.

    Raises:
        ValueError: If the payload cannot be attacked: zero or not finite, weights without
            ``knowledge.local``, or tensors that the network does not have.

    Returns:
        The images, in [0, 1], and how the attack went.
    """
    started = time.perf_counter()
    parameters, buffers = _split(model, global_state, payload)
    with _mode(model, training=knowledge.training_mode):
        target, simulate = _problem(model, parameters, buffers, payload, knowledge)
        labels = knowledge.labels
        if labels is None:
            labels = _infer(model, parameters, buffers, payload, knowledge, generator)
        objective = OBJECTIVES[attack.objective](target)
        outcomes = [
            _search(simulate, objective, labels, knowledge, attack, generator, restart)
            for restart in range(attack.restarts)
        ]
    best = min(outcomes, key=lambda outcome: outcome.cost)
    mean, std = _normalisation(knowledge, best.images.device)
    return Reconstruction(
        images=(best.images * std + mean).clamp(0, 1),
        labels=labels,
        labels_known=knowledge.labels is not None,
        cost=best.cost,
        costs=best.costs,
        restart=best.restart,
        seconds=time.perf_counter() - started,
        attack=attack,
    )


def _search(
    simulate: Simulate,
    objective: Objective,
    labels: Tensor,
    knowledge: Knowledge,
    attack: Attack,
    generator: torch.Generator,
    restart: int,
) -> _Outcome:
    """One restart; nothing in the loop waits for the device."""
    device = labels.device
    mean, std = _normalisation(knowledge, device)
    start = torch.randn((knowledge.num_images, *knowledge.image_shape), generator=generator)
    images = start.to(device).requires_grad_()
    step = SignedAdam(
        images,
        lr=attack.lr,
        iterations=attack.iterations,
        signed=attack.signed,
        low=(0 - mean) / std if attack.boxed else None,
        high=(1 - mean) / std if attack.boxed else None,
    )
    costs = torch.empty(attack.iterations, device=device)
    best_cost = torch.full((), torch.inf, device=device)
    best = images.detach().clone()
    for iteration in range(attack.iterations):
        images.grad = None
        cost = objective(simulate(images, labels))
        # Only the image needs a gradient: the last pass then skips those of the weights.
        (cost + attack.tv * total_variation(images)).backward(inputs=[images])  # type: ignore[no-untyped-call]
        with torch.no_grad():
            costs[iteration] = cost
            better = cost < best_cost
            best_cost = torch.where(better, cost, best_cost)
            best = torch.where(better, images, best)
        step.step()
    return _Outcome(float(best_cost), best, costs.cpu(), restart)


def _problem(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    buffers: Mapping[str, Tensor],
    payload: Payload,
    knowledge: Knowledge,
) -> tuple[dict[str, Tensor], Simulate]:
    """The captured payload as a direction of descent, and what simulates it."""
    clipping = knowledge.clipping_norm
    if payload.kind == "gradient":
        if knowledge.num_images == 1:
            clipping = None  # clipping one example scales it, which the cosine does not see

        def gradient(images: Tensor, labels: Tensor) -> dict[str, Tensor]:
            return gradient_of(
                model,
                parameters,
                buffers,
                images,
                labels,
                clipping_norm=clipping,
                create_graph=True,
            )

        return dict(payload.tensors), gradient
    local = knowledge.local
    if local is None:
        raise ValueError("weights can only be attacked if the client's local SGD is known")

    def descent(images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        after = unroll(
            model,
            parameters,
            buffers,
            images,
            labels,
            local=local,
            clipping_norm=clipping,
            create_graph=True,
        )
        return {name: parameters[name] - after[name] for name in after}

    target = {name: parameters[name] - weights for name, weights in payload.tensors.items()}
    return target, descent


def _infer(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    buffers: Mapping[str, Tensor],
    payload: Payload,
    knowledge: Knowledge,
    generator: torch.Generator,
) -> Tensor:
    gradient = dict(payload.tensors)
    if payload.kind == "weights" and knowledge.local is not None:
        scale = knowledge.local.lr * payload.steps
        gradient = {n: (parameters[n] - w) / scale for n, w in payload.tensors.items()}
    device = next(iter(parameters.values())).device
    probes = torch.randn((PROBES, *knowledge.image_shape), generator=generator).to(device)
    with torch.no_grad():
        state = {**parameters, **{name: b.clone() for name, b in buffers.items()}}
        output = functional_call(model, state, (probes,)).softmax(1).mean(0)
    return infer_labels(gradient, num_images=knowledge.num_images, probabilities=output)


def _split(
    model: nn.Module, global_state: Mapping[str, Tensor], payload: Payload
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    names = [name for name, _ in model.named_parameters()]
    if missing := [n for n in names if n not in global_state or n not in payload.tensors]:
        raise ValueError(
            f"{missing[0]} of the network is missing from the capture: is it another network?"
        )
    if more := sorted(set(payload.tensors) - set(names)):
        raise ValueError(f"{more[0]} of the capture is not in the network: is it another network?")
    for name, parameter in model.named_parameters():
        shapes = {tuple(t.shape) for t in (parameter, global_state[name], payload.tensors[name])}
        if len(shapes) > 1:
            raise ValueError(f"{name} has different shapes in network and capture: {shapes}")
    buffers = {name: global_state[name] for name, _ in model.named_buffers()}
    return {name: global_state[name].detach() for name in names}, buffers


def _normalisation(knowledge: Knowledge, device: torch.device) -> tuple[Tensor, Tensor]:
    mean = torch.tensor(knowledge.mean, device=device).view(1, -1, 1, 1)
    return mean, torch.tensor(knowledge.std, device=device).view(1, -1, 1, 1)


@contextmanager
def _mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Put the network into the client's mode, and each layer back into its own."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode
