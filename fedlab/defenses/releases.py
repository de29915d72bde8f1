"""From what a client computed to what it sends, through the update-level defenses of the round."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from attacks.payload import Payload
from fedlab.defenses.pipeline import Release


def released(
    payload: Payload, releases: Sequence[Release], global_state: Mapping[str, Tensor]
) -> Payload:
    """The payload after all releases.

    Args:
        payload: As computed.
        releases: In order; of weights they see the change from the global ones.
        global_state: The global parameters by name.
    """
    if not releases:  # weights less and plus the global ones would be rounded
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
