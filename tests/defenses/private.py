"""Private gradients for tests, and the same computed slowly, one example at a time."""

import contextlib

import torch
from torch.nn import functional

from fedlab.defenses.adaptive_clipping import Quantile
from fedlab.defenses.private_gradient import PrivateGradient
from tests.defenses.contexts import seeded

QUANTILE = Quantile(target=0.5, lr=0.2, noise=1.0)

WAYS = [
    *[("flat", mode) for mode in ("hooks", "ew", "functorch", "ghost", "loop")],
    *[(clipping, mode) for clipping in ("per-layer", QUANTILE) for mode in ("hooks", "ew")],
    ("per-layer", "functorch"),
]
"""Pairs of a kind of clipping and a mode of per-example gradients."""

IDS = ["-".join(["adaptive" if way[0] == QUANTILE else way[0], way[1]]) for way in WAYS]


def batch(n=6, shape=(1, 8, 8)):
    return torch.randn(n, *shape, generator=seeded()), torch.randint(10, (n,), generator=seeded(1))


def private(model, *, norm=0.5, noise=0.0, expected=6, seed=0, **settings):
    return PrivateGradient(
        model,
        clipping_norm=norm,
        noise_multiplier=noise,
        expected_batch_size=expected,
        generator=seeded(seed),
        **settings,
    )


@contextlib.contextmanager
def opened(model, **settings):
    gradient = private(model, **settings)
    try:
        yield gradient
    finally:
        gradient.close()


def flat(model):
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def one_by_one(model, images, labels, *, norm, clipping="flat"):
    """Clipped gradient of each example, ``[n, parameters]``, by autograd alone."""
    rows = []
    for index in range(len(images)):
        model.zero_grad()
        one = slice(index, index + 1)
        functional.cross_entropy(model(images[one]), labels[one]).backward()
        gradients = [p.grad.flatten() for p in model.parameters()]
        if clipping == "per-layer":
            most = norm / len(gradients) ** 0.5
            gradients = [g * min(1.0, most / float(g.norm() + 1e-6)) for g in gradients]
            rows.append(torch.cat(gradients))
            continue
        gradient = torch.cat(gradients)
        rows.append(gradient * min(1.0, norm / float(gradient.norm() + 1e-6)))
    model.zero_grad()
    return torch.stack(rows)
