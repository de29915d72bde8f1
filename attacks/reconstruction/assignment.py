"""One-to-one assignments of least summed cost, for many small matrices at once."""

import math

import torch
from torch import Tensor


def least_cost(cost: Tensor) -> Tensor:
    """Sum of the costs of the best assignment of rows to columns, each column used at most once.

    Dynamic programming over the sets of used columns: exact, differentiable with respect to the
    costs of the best assignment, and the same bits on every run, which a Hungarian search of each
    matrix by itself would be as well, but not on a GPU.

    Args:
        cost: float ``[batch, n, m]`` with n at most m; m is small, since 2^m sets are tried.

    Returns:
        float ``[batch]``.

    Example:
        >>> least_cost(torch.tensor([[[1.0, 5.0], [2.0, 3.0]], [[5.0, 1.0], [3.0, 2.0]]]))
        tensor([4., 4.])
    """
    batch, rows, columns = cost.shape
    sets = torch.arange(2**columns, device=cost.device)
    column = torch.arange(columns, device=cost.device)
    used = (sets.unsqueeze(1) >> column) & 1 == 1  # [sets, columns]
    before = sets.unsqueeze(1) & ~(1 << column)  # the same sets without one column
    least = cost.new_full((batch, len(sets)), math.inf)
    least[:, 0] = 0
    for row in range(rows):
        last = least[:, before] + cost[:, row].unsqueeze(1)
        least = last.masked_fill(~used, math.inf).amin(2)
    return least.amin(1)


def best_order(cost: Tensor) -> Tensor:
    """The column of each row in the assignment of least cost, int64 ``[n]``.

    Args:
        cost: float ``[n, m]`` with n at most m.

    Example:
        >>> best_order(torch.tensor([[5.0, 1.0], [3.0, 2.0]]))
        tensor([1, 0])
    """
    cost, places = cost.detach().clone(), torch.arange(cost.shape[1], device=cost.device)
    for row in range(len(cost)):
        with torch.enable_grad():
            leaf = cost.clone().requires_grad_()
            # The derivative of a minimum is above 0 where it is taken, in each of equal ones.
            (taken,) = torch.autograd.grad(least_cost(leaf.unsqueeze(0)).sum(), leaf)
        cost[row] = cost[row].masked_fill(places != taken[row].argmax(), math.inf)
    return cost.argmin(1)
