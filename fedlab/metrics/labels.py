"""Metrics of recovered labels. Their order does not count, because a gradient does not contain it.

The overlap is that of breaching's ``count_integer_overlap``.
"""

import torch
from torch import Tensor
from torch.nn.functional import one_hot


def label_accuracy(recovered: Tensor, truth: Tensor) -> float:
    """Overlap of two multisets of labels, ``1 - 1/(2 B) sum_c |n_c(recovered) - n_c(truth)|``.

    Args:
        recovered: int64 ``[m]``, recovered labels; usually m = B.
        truth: int64 ``[B]``, true labels.

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
    # Many more recovered than true labels would give a negative share.
    return max(0.0, 1 - int((found - true).abs().sum()) / (2 * len(truth)))


def exact_labels(recovered: Tensor, truth: Tensor) -> bool:
    """True if two multisets of labels are equal; the mean over batches is the exact match rate.

    Args:
        recovered: int64 ``[m]``, recovered labels.
        truth: int64 ``[B]``, true labels.

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
        recovered: float ``[m, classes]``, recovered labels, whose rows sum to 1.
        truth: float ``[B, classes]``, true labels, whose rows sum to 1; B is at least 1.

    Returns:
        Distance in [0, 2] for m = B: 0 if the sums agree, 2 if no class is shared.

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


def labels_agree(recovered: Tensor, truth: Tensor) -> Tensor:
    """Compare each recovered label with its true one.

    Args:
        recovered: int64 ``[n]``, or soft ``[n, classes]``; -1 where an image is missing.
        truth: int64 ``[n]``, or soft ``[n, classes]`` for mixed images.

    Returns:
        bool ``[n]``: True where the most likely recovered class is the true one, or one of those
        mixed; False where an image is missing.
    """
    soft = recovered.is_floating_point()
    hard = recovered.argmax(1) if soft else recovered
    present = (recovered >= 0).any(1) if soft else recovered >= 0
    if truth.is_floating_point():
        share = truth.gather(1, hard.clamp(min=0).unsqueeze(1)).squeeze(1)
        return (share > 0) & present
    return (hard == truth) & present


def label_overlap(recovered: Tensor, truth: Tensor) -> float:
    """Share of a batch's labels that was recovered, in any order.

    Args:
        recovered: int64 ``[n]``, or soft ``[n, classes]``; -1 where an image is missing.
        truth: int64 ``[n]``, or soft ``[n, classes]`` for mixed images.

    Returns:
        ``label_accuracy`` of hard labels; 1 minus half the ``soft_label_distance`` of soft ones.
    """
    if truth.is_floating_point():
        soft = recovered if recovered.is_floating_point() else _one_hot(recovered, truth.shape[1])
        return 1 - soft_label_distance(soft.float(), truth) / 2
    hard = recovered.argmax(1) if recovered.is_floating_point() else recovered[recovered >= 0]
    return label_accuracy(hard, truth)


def _one_hot(labels: Tensor, classes: int) -> Tensor:
    return one_hot(labels.clamp(min=0), classes)
