"""Surrogate updates for an external update, and the settings that an attack chooses on them."""

import logging
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from attacks.knowledge import Knowledge, PublicImages
from attacks.payload import Payload
from attacks.reconstruction import AttackSettings
from attacks.reconstruction.defended import noise_deviation
from attacks.reconstruction.modes import mode
from attacks.reconstruction.problem import Problem
from attacks.reconstruction.simulated_clients import surrogates
from attacks.reconstruction.tuning import SurrogateVictim
from fedlab.core.seeds import derive, generator
from fedlab.data.photographs import photograph_crops
from fedlab.evaluation.self_tuning import VICTIMS, quality_of, tuned
from fedlab.scenario.tables import Reconstruct

GENERIC = 64
"""Number of crops of photographs from which surrogates are drawn where no public image is given."""

log = logging.getLogger(__name__)


def tuned_for(
    model: nn.Module,
    state: Mapping[str, Tensor],
    payload: Payload,
    knowledge: Knowledge,
    attack: AttackSettings,
    *,
    entry: Reconstruct,
    seed: int,
) -> AttackSettings:
    """Choose settings on updates that the stated client would send for other images.

    The images are public ones where they are given, and crops of photographs otherwise. Defenses
    are simulated as far as ``knowledge`` states them: clipping per example and Gaussian noise.

    Args:
        model: The network, on the device to compute on.
        state: Parameters and buffers that the server sent, by name.
        payload: The captured payload.
        knowledge: Assumptions about the client.
        attack: Settings of the preset with those that the user replaced.
        entry: Budget of the tuning, and whether adapted settings are tried.
        seed: Seed of the surrogates and of every trial.
    """
    draws = generator(seed, "surrogate updates")
    public = knowledge.public or PublicImages(
        photograph_crops(knowledge.image_shape, GENERIC, draws)
    )
    problem = Problem.of(model, state, payload, replace(knowledge, public=public))
    with mode(model, training=knowledge.training_mode):
        victims = [_victim(problem, state, draws) for _ in range(VICTIMS)]
    found = tuned(model, victims, payload, attack, entry, seed=derive(seed, "tuning"))
    log.info(
        "the attack chose %s on simulated updates (%d iterations, %.1f s)",
        found.choice,
        found.iterations,
        found.seconds,
    )
    return found.attack


def _victim(
    problem: Problem, state: Mapping[str, Tensor], draws: torch.Generator
) -> SurrogateVictim:
    known = problem.knowledge
    images, labels = surrogates(problem, draws)
    noise = noise_deviation(problem.payload, known)
    descent = {
        name: change.detach() + noise * torch.randn(change.shape, generator=draws).to(change.device)
        for name, change in problem.simulate(images, labels, create_graph=False).items()
    }
    sent = (
        descent
        if problem.payload.kind == "gradient"
        else {name: problem.parameters[name] - change for name, change in descent.items()}
    )
    return SurrogateVictim(
        state,
        replace(problem.payload, tensors=sent),
        replace(known, labels=labels),
        quality_of(problem.pixels(images)),
    )
