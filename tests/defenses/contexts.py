"""What the tests of defenses hand to ``Defense.wrap``."""

import torch

from attacks.knowledge import Knowledge
from fedlab.defenses.pipeline import ClientContext


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def circumstances(model, shard, **given):
    """Those of a client in round 2, each of which can be replaced."""
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
    }
    return ClientContext(**{**usual, **given})
