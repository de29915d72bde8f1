"""Contexts and pipelines that the tests pass to ``Defense.wrap``."""

from dataclasses import replace

import torch

from attacks.knowledge import Knowledge
from fedlab.defenses.pipeline import ClientContext, Pipeline, PlainGradient, single, unchanged


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def context(model, shard, **given):
    """The context of a client in round 2; ``given`` replaces some of its attributes."""
    usual = {
        "model": model,
        "shard": shard,
        "round": 2,
        "participation": 1,
        "history": (),
        "sent": {name: p.detach().clone() for name, p in model.named_parameters()},
        "network_input": lambda pixels: pixels,
        "stream": lambda purpose: seeded(len(purpose)),
        "lasting": lambda purpose: seeded(len(purpose)),
        "noise": seeded(),
        "known": Knowledge((1, 8, 8), 10, (0.0,), (1.0,), num_images=1),
        "epochs": 1,
        "poisson": True,
        "public": shard,
    }
    return ClientContext(**{**usual, **given})


def plain_pipeline(model, images, *, batch_size=5, **given):
    """A pipeline without defenses: one batch out of some images; ``given`` replaces parts."""
    plain = Pipeline(
        sampler=single(images, batch_size=batch_size, generator=seeded()),
        transform=unchanged,
        gradient=PlainGradient(model),
        batch_size=batch_size,
        batches=1,
        records=batch_size,
    )
    return replace(plain, **given)
