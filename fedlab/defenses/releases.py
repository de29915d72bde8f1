"""Application of the update-level defenses of a round to a client's payload."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from attacks.payload import Payload
from fedlab.defenses.pipeline import Release


def released(
    payload: Payload, releases: Sequence[Release], global_state: Mapping[str, Tensor]
) -> Payload:
    """Apply the releases of a pipeline to a payload.

    Args:
        payload: Gradient or weights that the client computed.
        releases: Functions that change the update, in this order. For weights, the update is their
            difference from the global weights.
        global_state: Global parameters by name.

    Returns:
        A payload of the same kind.
    """
    if not releases:  # subtracting and adding the global weights would round them
        return payload
    weights = payload.kind == "weights"
    update: Mapping[str, Tensor] = payload.tensors
    if weights:
        update = {name: tensor - global_state[name] for name, tensor in update.items()}
    for release in releases:
        update = release(update)
    if weights:
        update = {name: global_state[name] + change for name, change in update.items()}
    return replace(payload, tensors=update)
