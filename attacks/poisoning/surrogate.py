"""The network that poisons are crafted against."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.func import functional_call

from attacks.gradients import batch_gradient


@dataclass(frozen=True)
class Surrogate:
    """A network that poisons are crafted against: architecture, weights and normalisation.

    Attributes:
        model: Architecture; set it to evaluation mode before.
        parameters: Parameters by name.
        buffers: Buffers by name; they never change.
        network_input: Normalises pixels in [0, 1] for the network.
    """

    model: nn.Module
    parameters: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    network_input: Callable[[Tensor], Tensor]

    def gradient(
        self, pixels: Tensor, labels: Tensor, *, create_graph: bool = False
    ) -> dict[str, Tensor]:
        """Return the gradient of the mean cross-entropy with respect to the parameters.

        Args:
            pixels: Images, float ``[n, channels, height, width]`` in [0, 1].
            labels: Class of each image, int64 ``[n]`` or soft ``[n, classes]``.
            create_graph: Make the result differentiable by the pixels.

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
        """Return the logits, float ``[n, classes]``, differentiable by the pixels."""
        state = {**self.parameters, **self.buffers}
        logits: Tensor = functional_call(self.model, state, (self.network_input(pixels),))
        return logits
