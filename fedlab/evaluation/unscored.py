"""Reconstructions without scores, since the true images are with the clients of a deployment."""

import math
from dataclasses import replace

import torch

from attacks.reconstruction import Reconstruction
from attacks.reconstruction.components import name_of
from fedlab.evaluation.leaks import Leak
from fedlab.evaluation.skipped import skipped_leak
from fedlab.metrics.verdict import UNSCORED
from fedlab.protocol.task import ClientTask
from fedlab.results.attacks import UNKNOWN
from fedlab.server.captures import Capture


def unscored_leak(
    capture: Capture, task: ClientTask, reconstruction: Reconstruction, *, preset: str
) -> Leak:
    """Rows of reconstructed images with which nothing can be compared: scores are NaN.

    Args:
        capture: The captured update of one client.
        task: Task of the client.
        reconstruction: Result of the attack.
        preset: Name of the attack for the ``preset`` column.

    Returns:
        A leak whose true images are NaN.
    """
    without_scores = skipped_leak(
        capture,
        {task.client: task},
        None,
        preset=preset,
        labels_known=reconstruction.labels_known,
        order_known=False,
        reason="",
    )
    row = replace(
        without_scores.rows[0],
        target=UNKNOWN,
        verdict=UNSCORED,
        objective=name_of(reconstruction.attack.objective),
        tv=reconstruction.attack.tv,
        iterations=len(reconstruction.costs),
        seconds=reconstruction.seconds,
    )
    rebuilt = reconstruction.images.cpu()
    return Leak(
        rows=tuple(replace(row, image=place) for place in range(len(rebuilt))),
        originals=torch.full_like(rebuilt, math.nan),
        mixed=None,
        rebuilt=rebuilt,
        reconstruction=reconstruction,
    )
