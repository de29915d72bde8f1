"""Labels from the gradient of the last layer."""

from collections.abc import Mapping

import torch
from torch import Tensor


def infer_labels(
    gradient: Mapping[str, Tensor], *, num_images: int, probabilities: Tensor
) -> Tensor:
    """The labels of a batch, in ascending order.

    For one image the true class is the only one whose output bias (or, after a ReLU, whose
    row of the output weights) has a negative gradient: iDLG, arXiv 2001.02610. For a batch
    with mean loss, dL/db_c = (1/B) sum_j (p_jc - 1[y_j = c]) gives the exact count
    n_c = sum_j p_jc - B dL/db_c; with the mean softmax output in place of the unknown p_jc
    it is an estimate, good while the network is near uniform.

    Args:
        gradient: By parameter name, in order of the layers; of a weight update the update
            divided by minus the learning rate and the steps.
        num_images: B.
        probabilities: float ``[classes]``, expected softmax output of an image.

    Returns:
        int64 ``[num_images]``.

    Raises:
        ValueError: If the last layer does not look like a classifier of these classes.
    """
    classes = len(probabilities)
    signal = _output_signal(gradient, classes)
    if num_images == 1:
        return signal.argmin().unsqueeze(0)
    if signal.min() >= 0:
        raise ValueError("no class has a negative gradient, so no label can be inferred")
    if not _has_bias(gradient, classes):
        # Without a bias each row is p - 1[y] times unknown positive features: only its
        # relative size tells, as in LLG (arXiv 2105.09369).
        signal = signal / signal.clamp(max=0).sum().abs()
    counts = num_images * (probabilities - signal)
    return torch.repeat_interleave(
        torch.arange(classes, device=signal.device), _whole(counts, num_images)
    )


def _output_signal(gradient: Mapping[str, Tensor], classes: int) -> Tensor:
    name, last = list(gradient.items())[-1]
    if len(last) != classes:
        raise ValueError(f"the last layer ({name}) has {len(last)} outputs, not {classes}")
    return last if last.ndim == 1 else last.flatten(1).sum(1)


def _has_bias(gradient: Mapping[str, Tensor], classes: int) -> bool:
    last = list(gradient.values())[-1]
    return last.ndim == 1 and len(last) == classes


def _whole(counts: Tensor, total: int) -> Tensor:
    """Whole numbers near the counts that add up to a total (largest remainders)."""
    positive = counts.clamp(min=0)
    positive = positive * (total / positive.sum().clamp(min=1e-12))
    floors = positive.floor()
    missing = total - int(floors.sum())
    order = (positive - floors).argsort(descending=True, stable=True)
    floors[order[:missing]] += 1
    return floors.long()
