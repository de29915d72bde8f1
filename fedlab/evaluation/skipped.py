"""Leaks of attacks that could not run, so that their images are counted and not dropped."""

import math
from collections.abc import Mapping

import torch

from fedlab.evaluation.leaks import Leak
from fedlab.evaluation.replay import Truth
from fedlab.metrics.verdict import INCONCLUSIVE, setting
from fedlab.protocol.task import ClientTask
from fedlab.results.attacks import NO_IMAGE
from fedlab.results.rows import LeakageRow
from fedlab.server.captures import Capture

EMPTY_BATCH = "the client's batch was empty"
"""Reason why an update without any image is not attacked."""


def skipped_leak(
    capture: Capture,
    tasks: Mapping[int, ClientTask],
    truth: Truth | None,
    *,
    preset: str,
    labels_known: bool,
    order_known: bool,
    reason: str,
) -> Leak:
    """Rows without pictures for a capture that was not attacked: scores are NaN.

    Args:
        capture: The captured update.
        tasks: Tasks of the clients behind it, by client.
        truth: Images behind it; ``None`` if the round cannot be replayed. If there is no image,
            each client has one row with ``image`` -1 and ``target`` ``none``.
        preset: Name of the attack for the ``preset`` column.
        labels_known: True if the attacker was given the labels.
        order_known: True if the attacker knew the order of the images.
        reason: The reason why the capture was not attacked, in one sentence.
    """
    held = truth is not None and len(truth.inputs) > 0
    owners = truth.owners.tolist() if truth is not None and held else list(capture.clients)
    circumstances = setting(
        labels_known=labels_known,
        steps=capture.payload.steps,
        trained=capture.round > 1,
        training_mode=capture.facts.training_mode,
        order_known=order_known,
    )
    rows = []
    for place, owner in enumerate(owners):
        rows.append(
            LeakageRow(
                round=capture.round,
                client=owner,
                role=tasks[owner].role.role,
                defenses=tasks[owner].defense_names,
                preset=preset,
                image=place if held else -1,
                target="original" if held else NO_IMAGE,
                known_labels=labels_known,
                setting=circumstances.name,
                verdict=INCONCLUSIVE,
                payload_cosine=math.nan if truth is None else truth.payload_cosine,
                signal_cosine=math.nan if truth is None else truth.signal_cosine,
                threat=capture.facts.threat,
                letter=capture.facts.letter,
                reasons=", ".join(circumstances.reasons),
                skipped=reason,
            )
        )
    no_images = torch.empty(0, 1, 1, 1)
    return Leak(tuple(rows), originals=no_images, mixed=None, rebuilt=no_images)
