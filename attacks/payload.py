"""The content of one client's reply, as the server receives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Payload:
    """A gradient or new weights, with the public facts about them.

    Attributes:
        kind: ``gradient`` of one batch, or ``weights`` after local training.
        tensors: float32 tensors by parameter name, shaped as the parameters.
        num_examples: Number of images behind the payload, or its expected value under Poisson
            sampling; at least 1.
        steps: Number of local steps, at least 1.

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

    def to(self, device: torch.device) -> Payload:
        """Return the payload on a device."""
        return replace(self, tensors={name: t.to(device) for name, t in self.tensors.items()})

    def as_weights(self, global_state: Mapping[str, Tensor], *, lr: float) -> dict[str, Tensor]:
        """Return the client's weights: those it sent, or one SGD step along its gradient.

        Args:
            global_state: Parameters that the client started from, by name.
            lr: Learning rate of the step.
        """
        if self.kind == "weights":
            return dict(self.tensors)
        return {name: global_state[name] - lr * change for name, change in self.tensors.items()}
