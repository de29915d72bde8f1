"""Hashes of tensors."""

import hashlib
from collections.abc import Mapping
from weakref import ref

from torch import Tensor

_last: tuple[dict[str, "ref[Tensor]"], str] = {}, ""
"""The tensors that ``shared_digest`` hashed last, and the hash."""


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Compute SHA-256 over the names, types, shapes and bytes of tensors, in order of names."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def shared_digest(tensors: Mapping[str, Tensor]) -> str:
    """Compute ``digest`` of tensors that nobody changes, once if the same ones come again.

    All captures of a round share their global arrays.
    """
    global _last
    hashed, found = _last
    same = hashed.keys() == tensors.keys() and all(hashed[n]() is t for n, t in tensors.items())
    if not (hashed and same):
        found = digest(tensors)
        _last = {name: ref(tensor) for name, tensor in tensors.items()}, found
    return found
