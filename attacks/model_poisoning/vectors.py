"""Conversion of named tensors to one flat vector and back."""

from collections.abc import Mapping

import torch
from torch import Tensor


def flatten(tensors: Mapping[str, Tensor]) -> Tensor:
    """Concatenate all tensors in alphabetical order of their names.

    Args:
        tensors: Floating-point tensors of any shapes by name.

    Returns:
        One vector ``[d]`` in the widest dtype among them.

    Raises:
        ValueError: If there are no tensors, or one has an integer dtype.

    Example:
        >>> flatten({"b": torch.tensor([2.0, 3.0]), "a": torch.tensor(1.0)})
        tensor([1., 2., 3.])
    """
    if not tensors:
        raise ValueError("there are no tensors to flatten")
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{name} is {tensor.dtype}, not floating-point")
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def unflatten(vector: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Split a vector of ``flatten`` into named tensors.

    Args:
        vector: Vector ``[d]``.
        like: Tensors that give names, order, shapes and dtypes of the result.

    Raises:
        ValueError: If the vector has another length than they have together.
    """
    sizes = [like[name].numel() for name in sorted(like)]
    if vector.dim() != 1 or len(vector) != sum(sizes):
        raise ValueError(
            f"a vector of shape {tuple(vector.shape)} does not have {sum(sizes)} entries"
        )
    parts = dict(zip(sorted(like), torch.split(vector, sizes), strict=True))
    return {name: parts[name].reshape(each.shape).to(each.dtype) for name, each in like.items()}
