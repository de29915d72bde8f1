"""Scaling an update up, until it outweighs the others: model replacement.

Bagdasaryan et al., "How To Backdoor Federated Learning" (AISTATS 2020), eq. 3.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from attacks.payload import Payload


def scale(payload: Payload, global_state: Mapping[str, Tensor], factor: float) -> Payload:
    """The payload with its change of the global model multiplied by a factor.

    Weights X become G + factor * (X - G); a gradient is multiplied.
    """
    if payload.kind == "gradient":
        return replace(payload, tensors={n: factor * g for n, g in payload.tensors.items()})
    return replace(
        payload,
        tensors={
            name: global_state[name] + factor * (weights - global_state[name])
            for name, weights in payload.tensors.items()
        },
    )
