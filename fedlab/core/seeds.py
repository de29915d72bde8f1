"""One root seed, and an independent random stream for every purpose, round and client.

Streams are named, not numbered in order of use, so that adding a draw somewhere
never changes the draws elsewhere, and every engine gets the same bits.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, purpose: str, *key: int) -> int:
    """The 63-bit seed of one named stream.

    SHA-256 keeps streams of neighbouring keys unrelated, which sums or products of
    small integers would not.

    Args:
        seed: Root seed of the scenario.
        purpose: What the draws are for, such as ``"batches"``.
        *key: Round, client, counter or whatever else tells two streams apart.

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
    """A fresh generator for one named stream.

    Args:
        seed: Root seed of the scenario.
        purpose: What the draws are for.
        *key: What tells this stream from others of the same purpose.
        device: Where the draws are made. CPU and CUDA streams differ.

    Returns:
        A generator that starts at the same state each time it is asked for.
    """
    return torch.Generator(device=device).manual_seed(derive(seed, purpose, *key))


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's global generators at a seed, and as they were afterwards.

    For layers such as Dropout, which draw from them and take no generator.

    Args:
        seed: As ``derive`` gives it.
        device: Where the layers are.
    """
    cuda = range(torch.cuda.device_count()) if device.type == "cuda" else ()
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        yield
