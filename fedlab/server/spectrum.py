"""Convolutions of lower or higher rank: a change of the global model after aggregation.

A convolution maps each spatial frequency of its input by a matrix of its own (Sedghi et al., arXiv
1805.10408). Goldblum et al., "Truth or Backpropaganda?" (arXiv 1910.00359), change the singular
values of these matrices to test whether a low rank helps a network.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from fedlab.core.errors import BadInput
from fedlab.scenario.tables import Rank


def later_kernels(state: Mapping[str, Tensor], parameters: Iterable[str]) -> list[str]:
    """Names of the weights of all two-dimensional convolutions but the first."""
    return [name for name in parameters if state[name].ndim == 4][1:]


def refuse_without_kernels(
    rank: Rank | None, state: Mapping[str, Tensor], parameters: Iterable[str]
) -> None:
    """Refuse a change of ranks of a network that has no convolution after the first.

    Raises:
        BadInput: If there is none.
    """
    if rank is not None and not later_kernels(state, parameters):
        raise BadInput(
            "server.rank changes the convolutions after the first, and the network has none: "
            "leave it out, or use another network"
        )


def change_ranks(
    arrays: Mapping[str, Tensor], parameters: Iterable[str], rank: Rank
) -> dict[str, Tensor]:
    """Change the singular values of all convolutions but the first.

    Args:
        arrays: New global parameters and buffers by name.
        parameters: Names of the parameters, in the order of the network.
        rank: The change.
    """
    changed = {
        name: change_spectrum(arrays[name], rank) for name in later_kernels(arrays, parameters)
    }
    return {**arrays, **changed}


def change_spectrum(kernel: Tensor, rank: Rank) -> Tensor:
    """Change the singular values of a convolution at every frequency.

    The result is cut to the support of the kernel, as in the public code, so that its singular
    values are changed only roughly if the grid is larger.

    Args:
        kernel: Weights, float ``[outputs, inputs, height, width]``.
        rank: The change, its bound, and the side of the grid of frequencies.
    """
    height, width = kernel.shape[-2:]
    matrices = _matrices(kernel, rank.grid)
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    if rank.change == "min":
        values = torch.where(values < rank.limit, 0.0, values)
    else:
        values = values.clamp(max=rank.limit)
    spectrum = (left * values.unsqueeze(-2)) @ right
    side = max(rank.grid, height, width)
    found: Tensor = torch.fft.irfft2(spectrum.permute(2, 3, 0, 1), s=(side, side))
    return found[..., :height, :width].to(kernel.dtype).contiguous()


def singular_values(kernel: Tensor, grid: int) -> Tensor:
    """Singular values of a convolution at every frequency of a grid.

    For a grid as large as the input they are those of the whole layer with circular padding, where
    frequencies that differ in their sign are counted once.

    Args:
        kernel: Weights, float ``[outputs, inputs, height, width]``.
        grid: Side of the grid.

    Returns:
        float64 ``[grid, grid // 2 + 1, min(outputs, inputs)]``, from large to small.
    """
    values: Tensor = torch.linalg.svdvals(_matrices(kernel, grid))
    return values


def _matrices(kernel: Tensor, grid: int) -> Tensor:
    """One matrix ``[outputs, inputs]`` for each frequency; real kernels need only half of them."""
    side = max(grid, *kernel.shape[-2:])
    spectrum: Tensor = torch.fft.rfft2(kernel.double(), s=(side, side))
    return spectrum.permute(2, 3, 0, 1)
