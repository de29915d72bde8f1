"""Metrics: what a column of ``leakage.csv`` measures, and how it is printed.

A metric of one's own is a function with ``@metric`` above it, named in a scenario by
``metrics = ["package.module:function"]``. PyTorch is imported where values are computed only,
because reading a scenario and printing a table import this module.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fedlab.core.plugins import PluginFailed, Registry, describe, has_stand_in

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Metric:
    """One column of ``leakage.csv``.

    Attributes:
        column: Name of the column.
        label: Name in tables and figures.
        unit: Unit of the values; empty for none.
        higher_is_better: True if higher values mean a more faithful reconstruction.
        decimals: Number of decimals in tables.
        chance: True to compute it of guesses without an update as well, for one more column,
            ``chance_`` and the name: the best of the nearest other public image of the class, the
            class mean and noise; NaN without public images.
        compute: Function from true and reconstructed images, float32
            ``[n, channels, height, width]`` in [0, 1], to one value per image ``[n]``. A
            reconstruction that is missing is NaN. ``None`` if the value needs more than images.

    Example:
        >>> Metric("psnr", "PSNR", unit="dB", decimals=1).header
        'PSNR (dB)'
    """

    column: str
    label: str
    unit: str = ""
    higher_is_better: bool = True
    decimals: int = 2
    chance: bool = False
    compute: Callable[[Tensor, Tensor], Tensor] | None = field(default=None, repr=False)

    @property
    def header(self) -> str:
        """Label with its unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def of_chance(self) -> Metric:
        """The column of the values of chance."""
        return replace(
            self, column=f"chance_{self.column}", label=f"{self.label} by chance", compute=None
        )

    def text(self, value: float) -> str:
        """A value as tables print it; a dash for NaN."""
        return "–" if math.isnan(value) else f"{value:.{self.decimals}f}"

    def __call__(self, truth: Tensor, rebuilt: Tensor) -> Tensor:
        """Compute one value for each image.

        Args:
            truth: float32 ``[n, channels, height, width]``, true images, pixels in [0, 1].
            rebuilt: float32 of the same shape, reconstructed images; NaN where one is missing.

        Returns:
            float64 ``[n]``.

        Raises:
            PluginFailed: If the function raises or returns another number of values.
        """
        import torch

        if self.compute is None:
            raise PluginFailed(f'metric "{self.column}" needs more than images')
        try:
            values = torch.as_tensor(self.compute(truth, rebuilt)).double().detach()
        except Exception as error:  # foreign code may raise anything
            raise PluginFailed(f'metric "{self.column}" failed: {describe(error)}') from error
        if values.shape != truth.shape[:1]:
            raise PluginFailed(
                f'metric "{self.column}" returned values of shape {list(values.shape)} for '
                f"{len(truth)} images"
            )
        return values


def metric(
    column: str,
    *,
    label: str = "",
    unit: str = "",
    higher_is_better: bool = True,
    decimals: int = 2,
    chance: bool = False,
) -> Callable[[Callable[[Tensor, Tensor], Tensor]], Metric]:
    """Make a metric of the function below.

    Args:
        column: Name of the column in ``leakage.csv``.
        label: Name in tables and figures; the column's name if empty.
        unit: Unit of the values; empty for none.
        higher_is_better: True if higher values mean a more faithful reconstruction.
        decimals: Number of decimals in tables.
        chance: True to compute it of guesses without an update as well.

    Raises:
        ValueError: If the column's name has other characters than letters, digits and ``_``.

    Example:
        >>> @metric("l1", label="L1 distance", higher_is_better=False)
        ... def l1(truth, rebuilt):
        ...     return (truth - rebuilt).abs().flatten(1).mean(1)
        >>> l1.header
        'L1 distance'
    """
    if not column.isidentifier():
        raise ValueError(f"metric {column!r}: the name of a column has letters, digits and _ only")
    described = Metric(column, label or column, unit, higher_is_better, decimals, chance)

    def decorate(function: Callable[[Tensor, Tensor], Tensor]) -> Metric:
        made = replace(described, compute=function)
        for name in ("__doc__", "__module__", "__qualname__"):
            # The registry finds the import path of a metric that is given as an object.
            object.__setattr__(made, name, getattr(function, name))
        return made

    return decorate


def _is_metric(found: object) -> str | None:
    if not isinstance(found, Metric):
        return "is no Metric: put @fedlab.metrics.metric.metric above the function"
    if found.compute is None:
        return "cannot be computed from images alone"
    if COLUMNS.get(found.column, found) is not found:
        return f"writes the column {found.column}, which is built in: give its column another name"
    return None


@metric("psnr", label="PSNR", unit="dB", decimals=1)
def psnr(truth: Tensor, rebuilt: Tensor) -> Tensor:
    """Peak signal-to-noise ratio."""
    from fedlab.metrics.images import psnr as compute

    return compute(truth, rebuilt)


@metric("ssim", label="SSIM")
def ssim(truth: Tensor, rebuilt: Tensor) -> Tensor:
    """Structural similarity."""
    from fedlab.metrics.similarity import ssim as compute

    return compute(truth, rebuilt)


@metric("ms_ssim", label="MS-SSIM")
def ms_ssim(truth: Tensor, rebuilt: Tensor) -> Tensor:
    """Structural similarity over several scales."""
    from fedlab.metrics.multiscale import ms_ssim as compute

    return compute(truth, rebuilt)


@metric("registered_psnr", label="registered PSNR", unit="dB", decimals=1)
def registered_psnr(truth: Tensor, rebuilt: Tensor) -> Tensor:
    """PSNR after the best small shift, turn and zoom."""
    from fedlab.metrics.registration import registered_psnr as compute

    return compute(truth, rebuilt)


@metric("outline", label="outline (ARI)", chance=True)
def outline(truth: Tensor, rebuilt: Tensor) -> Tensor:
    """Adjusted Rand index of segmentations, beside chance: whether the outline leaks."""
    from fedlab.metrics.outline import outline as compute

    return compute(truth, rebuilt)


COLUMNS: dict[str, Metric] = {
    each.column: each
    for each in (
        psnr,
        ssim,
        ms_ssim,
        registered_psnr,
        Metric("feature_distance", "feature distance", higher_is_better=False, decimals=4),
        Metric("chance_psnr", "chance PSNR", "dB", decimals=1),
        Metric("chance_grey", "PSNR of mid-grey", "dB", decimals=1),
        Metric("chance_class_mean", "PSNR of the class mean", "dB", decimals=1),
        Metric("chance_nearest", "PSNR of the nearest other image", "dB", decimals=1),
        Metric("iip", "identified"),
        Metric("identification", "identification rank"),
        Metric("label_accuracy", "label accuracy"),
        Metric("payload_cosine", "cosine to the replay", decimals=4),
        Metric("signal_cosine", "cosine to the replay without noise", decimals=4),
    )
}
"""Metrics of the built-in columns of ``leakage.csv``, by column."""

METRICS: Registry[Metric] = Registry(
    "metric",
    group="fedlab.metrics",
    builtin={
        "psnr": "fedlab.metrics.metric:psnr",
        "ssim": "fedlab.metrics.metric:ssim",
        "ms-ssim": "fedlab.metrics.metric:ms_ssim",
        "registered-psnr": "fedlab.metrics.metric:registered_psnr",
        "outline": "fedlab.metrics.metric:outline",
    },
    check=_is_metric,
)
"""Metrics by name. All built-in ones but ``outline`` are always columns; a scenario adds others."""


def described(column: str, metrics: tuple[str, ...] = ()) -> Metric:
    """The metric of a column of ``leakage.csv``.

    Args:
        column: Name of the column.
        metrics: Names of the metrics that the scenario adds; they are imported, except within
            ``fedlab.core.plugins.looking``.

    Returns:
        The metric; for an unknown column one with its name as label.
    """
    imported = (METRICS.get(name) for name in metrics if not has_stand_in(name))
    foreign: dict[str, Any] = {
        each.column: each for metric in imported for each in (metric, metric.of_chance)
    }
    return (COLUMNS | foreign).get(column) or Metric(column, column)
