"""What one client's reply holds, as the server sees it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Payload:
    """A gradient or new weights, and the public facts that go with them.

    Attributes:
        kind: ``gradient`` of one batch, or ``weights`` after local training.
        tensors: float32 by parameter name, shaped as the parameters.
        num_examples: Images behind it, or the expected number under Poisson sampling.
        steps: Local steps that were taken.

    Raises:
        ValueError: If there are no tensors, no examples or no steps.
    """

    kind: Literal["gradient", "weights"]
    tensors: Mapping[str, Tensor] = field(repr=False)
    num_examples: int
    steps: int

    def __post_init__(self) -> None:
        if not self.tensors:
            raise ValueError("a payload without tensors cannot be used")
        if self.num_examples < 1 or self.steps < 1:
            raise ValueError(
                f"a payload needs at least one example and one step, not {self.num_examples} "
                f"and {self.steps}"
            )

    def to(self, device: torch.device) -> "Payload":
        """The same payload on a device."""
        return replace(self, tensors={name: t.to(device) for name, t in self.tensors.items()})

    def as_weights(self, global_state: Mapping[str, Tensor], *, lr: float) -> dict[str, Tensor]:
        """The client's model: its weights, or one step of SGD along the gradient that it sent.

        Args:
            global_state: What the client started from, by parameter name.
            lr: Learning rate of that step.
        """
        if self.kind == "weights":
            return dict(self.tensors)
        return {name: global_state[name] - lr * change for name, change in self.tensors.items()}
