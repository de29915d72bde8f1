"""Named tensors as one flat vector and back, for attacks that compare whole updates."""

from collections.abc import Mapping

import torch
from torch import Tensor


def flatten(tensors: Mapping[str, Tensor]) -> Tensor:
    """All tensors as one vector, in alphabetical order of their names.

    Args:
        tensors: Floating-point, of any shapes.

    Returns:
        ``[d]``, in the widest dtype among them.

    Raises:
        ValueError: If there are none, or one holds whole numbers, which would not come back.

    Example:
        >>> flatten({"b": torch.tensor([2.0, 3.0]), "a": torch.tensor(1.0)})
        tensor([1., 2., 3.])
    """
    if not tensors:
        raise ValueError("there are no tensors to flatten")
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{name} is {tensor.dtype}, which is no change of a model")
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def unflatten(vector: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that ``flatten`` made a vector of.

    Args:
        vector: ``[d]``.
        like: Tensors of the same names, shapes and dtypes; the result is in their order.

    Raises:
        ValueError: If the vector is longer or shorter than they are together.
    """
    sizes = [like[name].numel() for name in sorted(like)]
    if vector.dim() != 1 or len(vector) != sum(sizes):
        raise ValueError(f"a vector of shape {tuple(vector.shape)} does not hold {sum(sizes)}")
    parts = dict(zip(sorted(like), torch.split(vector, sizes), strict=True))
    return {name: parts[name].reshape(each.shape).to(each.dtype) for name, each in like.items()}
