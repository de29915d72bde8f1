"""Memory that a step of an attack on many images takes, estimated from a step on a few."""

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from attacks.gradients import KEPT_STEPS, gradient_of, twice_differentiable
from attacks.reconstruction.modes import mode
from attacks.reconstruction.presets import AttackSettings
from attacks.reconstruction.problem import Problem

FEW = 2
"""Number of images of the smaller of the two batches that are measured; the other has twice as
many."""

PEAK = 3.0
"""Peak memory of a step by what is saved for its backward pass, which makes tensors of its own.
With this factor the estimates were 0.6 to 2.1 times the measured growth of the process, for
``convnet``, ``convnet8`` and ``resnet8`` and 64 to 256 images."""


def step_bytes(problem: Problem, attack: AttackSettings) -> int:
    """Bytes that one step of a search for all images of a problem takes, about.

    What the double backward pass saves is measured on small batches of noise; it grows in
    proportion to the images.

    Args:
        problem: Captured payloads, network and knowledge.
        attack: Settings of the attack.
    """
    small, double = _saved(problem, FEW), _saved(problem, 2 * FEW)
    an_image, fixed = (double - small) / FEW, max(0, 2 * small - double)
    weights = sum(p.numel() * p.element_size() for p in problem.parameters.values())
    total = 0.0
    for each in (problem, *problem.earlier):
        images, steps = each.knowledge.num_images, 1
        if each.payload.steps > 1 and attack.local_steps == "unroll":
            images, steps = max(map(len, each.blocks)), each.payload.steps
        # Beyond KEPT_STEPS one step at a time is computed again from its weights.
        at_once = steps if steps <= KEPT_STEPS else 1
        total += at_once * (fixed + an_image * images) + (steps - at_once) * weights
    return int(PEAK * total)


def _saved(problem: Problem, images: int) -> int:
    """Bytes of all tensors that the gradient of some images keeps for its own gradient."""
    known, storages = problem.knowledge, dict[int, int]()

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        kept.append(tensor)  # so that no other tensor gets its address
        return tensor

    kept: list[Tensor] = []
    weight = next(iter(problem.parameters.values()))
    inputs = weight.new_zeros(images, *known.image_shape).requires_grad_()
    labels = torch.zeros(images, dtype=torch.int64, device=problem.device)
    with (
        mode(problem.model, training=known.training_mode),
        twice_differentiable(problem.model),
        saved_tensors_hooks(note, lambda tensor: tensor),
    ):
        gradient_of(
            problem.model,
            problem.parameters,
            problem.buffers,
            inputs,
            labels,
            clipping_norm=known.clipping_norm,
            batch_size=images,
            create_graph=True,
        )
    return sum(storages.values())
