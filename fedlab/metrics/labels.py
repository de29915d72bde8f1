"""How well labels were recovered; their order never counts, as a gradient does not hold it.

The overlap is that of breaching's ``count_integer_overlap``.
"""

import torch
from torch import Tensor


def label_accuracy(recovered: Tensor, truth: Tensor) -> float:
    """Overlap of two multisets of labels, ``1 - 1/(2 B) sum_c |n_c(recovered) - n_c(truth)|``.

    Args:
        recovered: int64 ``[m]``; commonly m = B.
        truth: int64 ``[B]``.

    Returns:
        Share in [0, 1]; 1 for two empty multisets.

    Example:
        >>> label_accuracy(torch.tensor([3, 1, 1, 7]), torch.tensor([1, 3, 7, 7]))
        0.75
    """
    if not len(truth):
        return float(not len(recovered))
    classes = 1 + int(torch.cat([recovered.cpu(), truth.cpu()]).max())
    found, true = (torch.bincount(v.cpu(), minlength=classes) for v in (recovered, truth))
    # Far more recovered than true labels would fall below 0.
    return max(0.0, 1 - int((found - true).abs().sum()) / (2 * len(truth)))


def exact_labels(recovered: Tensor, truth: Tensor) -> bool:
    """Whether two multisets of labels are the same; its mean over batches is the exact rate.

    Args:
        recovered: int64 ``[m]``.
        truth: int64 ``[B]``.

    Example:
        >>> exact_labels(torch.tensor([3, 1, 1]), torch.tensor([1, 3, 1]))
        True
        >>> exact_labels(torch.tensor([3, 1, 1]), torch.tensor([1, 3, 3]))
        False
    """
    return torch.equal(recovered.cpu().sort().values, truth.cpu().sort().values)


def soft_label_distance(recovered: Tensor, truth: Tensor) -> float:
    """L1 distance of the summed label vectors of two batches, per true example.

    Args:
        recovered: float ``[m, classes]``, rows that sum to 1.
        truth: float ``[B, classes]``, likewise, B at least 1.

    Returns:
        0 if the sums agree, 2 if no class is shared and m = B.

    Raises:
        ValueError: If the numbers of classes differ, or there is no true label.
    """
    if recovered.shape[1:] != truth.shape[1:] or truth.ndim != 2 or not len(truth):
        raise ValueError(
            f"soft labels of shape {list(recovered.shape)} cannot be compared with "
            f"{list(truth.shape)}"
        )
    difference = recovered.cpu().double().sum(0) - truth.cpu().double().sum(0)
    return float(difference.abs().sum()) / len(truth)
