"""Random updates, and update-level defenses applied to them."""

import torch
from hypothesis import strategies as st
from torch import nn

from attacks.knowledge import Knowledge
from fedlab.data.shard import Shard
from tests.defenses.contexts import context, plain_pipeline, seeded

N = 6


def update(*, seed=0, size=1.0):
    """A random update of three tensors, one of them a single number."""
    shapes = {"weight": (40, 30), "bias": (30,), "scale": ()}
    generator = seeded(seed)
    return {n: size * torch.randn(shape, generator=generator) for n, shape in shapes.items()}


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


def known(*defenses, **given):
    """What an attacker knows of a client with one digit under some defenses."""
    return Knowledge((1, 8, 8), 10, (0.0,), (1.0,), num_images=1, defenses=defenses, **given)


def wrapped(settings, **given):
    """The pipeline of a client with a small network under one defense."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    shard = Shard(torch.zeros(N, 1, 8, 8, dtype=torch.uint8), torch.zeros(N).long(), 10)
    plain = plain_pipeline(model, N, batch_size=N)
    return settings.wrap(plain, context(model, shard, **given))


def released(settings, tensors, **given):
    """An update as a client sends it under one defense."""
    (release,) = wrapped(settings, **given).releases
    return release(tensors)


tensors = st.lists(
    st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, 1.0, -1.0]), min_size=1, max_size=40
).map(torch.tensor)
"""Hypothesis strategy for tensors of up to forty numbers, many of them equal."""
