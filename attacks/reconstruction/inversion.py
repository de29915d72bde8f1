"""Reconstruct a client's images from its gradient or weight update.

Geiping et al., "Inverting Gradients: How easy is it to break privacy in federated
learning?" (NeurIPS 2020, arXiv 2003.14053).
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from attacks.gradients import twice_differentiable
from attacks.knowledge import Knowledge
from attacks.payload import Payload
from attacks.reconstruction.components import METHODS, name_of
from attacks.reconstruction.methods import RunOptions
from attacks.reconstruction.modes import mode
from attacks.reconstruction.presets import AttackSettings
from attacks.reconstruction.problem import EarlierUpdate, Problem
from attacks.reconstruction.result import Reconstruction
from attacks.reconstruction.watch import Watch


def invert(
    model: nn.Module,
    global_state: Mapping[str, Tensor],
    payload: Payload,
    knowledge: Knowledge,
    attack: AttackSettings,
    *,
    generator: torch.Generator,
    earlier: Sequence[EarlierUpdate] = (),
    initial_images: Tensor | None = None,
    seconds: float | None = None,
    workers: int = 1,
    cuda_graph: bool = True,
    watch: Watch | None = None,
) -> Reconstruction:
    """Reconstruct the images behind a payload.

    The method ``optimise`` minimises match * objective(simulated, captured) + priors(x) over images
    within the pixel range (Geiping et al. 2020, eq. 4; section 6 for weight updates).

    Args:
        model: The architecture, on the device to compute on; it is not changed.
        global_state: Parameters and buffers that the client started from, by name.
        payload: Gradient or weights that the client sent.
        knowledge: Further assumptions about the client.
        attack: Settings of the attack.
        generator: CPU generator of initial images, noise and soft labels.
        earlier: Updates of the same images in earlier rounds. The method ``optimise`` matches them
            as well, and its objective is the mean over all rounds; other built-in methods do not.
            A method of your own that uses ``problem.earlier`` says so in ``rounds`` of its result.
        initial_images: float ``[n, channels, height, width]``, pixels in [0, 1], to start from
            instead of the initialisation of the settings; restarts after the first add noise.
        seconds: Time budget in seconds. The schedule is compressed to end by then, and the result
            depends on the machine's speed.
        workers: Number of restarts that run at the same time, at least 1. On a CPU each uses one
            thread and the result stays the same.
        cuda_graph: Replay each step as a CUDA graph on a CUDA device.
        watch: Callback that receives the progress of each restart.

    Returns:
        Images in [0, 1], their labels, and the course of the attack.

    Raises:
        ValueError: If the payload cannot be attacked: it is zero or not finite, it holds weights
            and ``knowledge.local`` is missing, its tensors do not fit the network, the method does
            not fit the network, or an earlier update is of another number of images.
    """
    started = time.perf_counter()
    problem = Problem.of(model, global_state, payload, knowledge, earlier)
    options = RunOptions(
        generator=generator,
        initial_images=initial_images,
        seconds=seconds,
        workers=workers,
        cuda_graph=cuda_graph,
        watch=watch,
    )
    with mode(model, training=knowledge.training_mode), twice_differentiable(model):
        found = METHODS.resolve(attack.method)(problem, attack, options)
    if not isinstance(found, Reconstruction):
        raise ValueError(
            f"{name_of(attack.method)} returned {type(found).__name__}, not a Reconstruction"
        )
    return replace(
        found,
        labels_known=knowledge.labels is not None,
        labels_guessed=bool(problem.guesses),
        seconds=time.perf_counter() - started,
        attack=attack,
    )
