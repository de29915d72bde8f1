"""Values of the metrics that a scenario adds, with what chance reaches."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fedlab.metrics.metric import Metric


def further_values(
    metrics: Sequence[Metric], truth: Tensor, rebuilt: Tensor, guesses: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Values of metrics by column, each followed by its chance if it has one.

    Args:
        metrics: The metrics.
        truth: ``[n, channels, height, width]``, true images, pixels in [0, 1].
        rebuilt: The same shape, reconstructed images; NaN where one is missing.
        guesses: For each true image the guesses ``[m, channels, height, width]`` without an update,
            of which the best counts; empty without public images, and chance is NaN.

    Returns:
        float ``[n]`` for each column.

    Raises:
        PluginFailed: If a metric fails.
    """
    found = {}
    for each in metrics:
        found[each.column] = each(truth, rebuilt)
        if each.chance:
            best = [
                _best(each, each(true.cpu().expand_as(some), some))
                for true, some in zip(truth, guesses, strict=False)
            ]
            found[each.of_chance.column] = torch.tensor(
                best or [math.nan] * len(truth), dtype=torch.float64
            )
    return found


def _best(metric: Metric, values: Tensor) -> float:
    """The best of some values that is not NaN; NaN if all are."""
    known = values[~values.isnan()]
    if not len(known):
        return math.nan
    return float(known.max() if metric.higher_is_better else known.min())
