"""One root seed, and an independent random stream for every purpose, round and client.

Streams are named, not numbered in order of use, so that adding a draw somewhere
never changes the draws elsewhere, and every engine gets the same bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from fedlab.core.lazy import torch


def derive(seed: int, purpose: str, *key: int) -> int:
    """Compute the 63-bit seed of a named stream.

    SHA-256 makes the streams of neighbouring keys independent, unlike sums or products of small
    integers.

    Args:
        seed: Root seed of the scenario.
        purpose: Purpose of the draws, such as ``"batches"``.
        *key: Round, client, counter or other numbers that distinguish streams of one purpose.

    Example:
        >>> derive(0, "batches", 1, 2) == derive(0, "batches", 1, 2)
        True
        >>> derive(0, "batches", 1, 2) == derive(0, "batches", 2, 1)
        False
    """
    name = "/".join([str(seed), purpose, *map(str, key)])
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def generator(
    seed: int, purpose: str, *key: int, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Make a generator at the start of a named stream.

    Args:
        seed: Root seed of the scenario.
        purpose: Purpose of the draws.
        *key: Numbers that distinguish streams of one purpose.
        device: Device on which the draws are made. CPU and CUDA streams differ.

    Returns:
        A generator whose first state is the same for equal arguments.
    """
    return torch.Generator(device=device).manual_seed(derive(seed, purpose, *key))


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed PyTorch's global generators within the block, and restore them afterwards.

    Layers such as Dropout draw from these generators and take none of their own.

    Args:
        seed: Seed of the block.
        device: Device of the layers.
    """
    with torch.random.fork_rng(devices=range(gpus()) if device.type == "cuda" else ()):
        seed_torch(seed)
        yield


def seed_torch(seed: int) -> None:
    """Seed PyTorch's global generators of the CPU and of all GPUs.

    On a machine without a GPU, ``torch.manual_seed`` takes some thirty times as long, to note from
    where it was called, once for each kind of device that PyTorch knows.
    """
    torch.default_generator.manual_seed(seed)
    if gpus():
        torch.cuda.manual_seed_all(seed)


@cache
def gpus() -> int:
    """Number of GPUs; cached, since the driver takes its time to answer."""
    return int(torch.cuda.device_count())
