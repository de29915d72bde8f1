"""The network that poisons are made against."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.func import functional_call

from attacks.gradients import batch_gradient


@dataclass(frozen=True)
class Surrogate:
    """A network that poisons are made against: architecture, weights, and how it takes pixels.

    Attributes:
        model: The architecture; whoever makes the surrogate sets evaluation mode.
        parameters: By name.
        buffers: By name; never changed.
        network_input: From pixels in [0, 1] to what the network takes.
    """

    model: nn.Module
    parameters: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    network_input: Callable[[Tensor], Tensor]

    def gradient(
        self, pixels: Tensor, labels: Tensor, *, create_graph: bool = False
    ) -> dict[str, Tensor]:
        """Gradient of the mean cross-entropy with respect to the parameters.

        Args:
            pixels: float ``[n, channels, height, width]`` in [0, 1].
            labels: int64 ``[n]`` or soft ``[n, classes]``.
            create_graph: Whether the result can be differentiated by the pixels.

        Returns:
            One tensor per parameter, by name.
        """
        return batch_gradient(
            self.model,
            self.parameters,
            self.buffers,
            self.network_input(pixels),
            labels,
            create_graph=create_graph,
        )

    def logits(self, pixels: Tensor) -> Tensor:
        """What the network says, float ``[n, classes]``, differentiable by the pixels."""
        state = {**self.parameters, **self.buffers}
        logits: Tensor = functional_call(self.model, state, (self.network_input(pixels),))
        return logits
