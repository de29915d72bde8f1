"""Measurements of the global model on public test images, which change nothing in the run."""

from torch import Tensor

from fedlab.client.federated_data import FederatedData
from fedlab.core.errors import BadInput
from fedlab.core.network_errors import names_network
from fedlab.core.seeds import generator
from fedlab.evaluation.robustness import Robustness, robustness
from fedlab.evaluation.tangent_kernel import TangentKernel, tangent_kernel
from fedlab.models.starts import Activity, relu_activity
from fedlab.scenario.scenario import Scenario
from fedlab.server.rounds import RoundLoop


class ModelProbes:
    """Measurements of the global model as it is now.

    Attributes:
        scenario: The scenario with all toggles so far.
        federated: The data of all clients.
        round: The last round that has ended; 0 before the first.
    """

    scenario: Scenario
    federated: FederatedData
    round: int
    _loop: RoundLoop

    @names_network(lambda self: self.federated.network)
    def robustness(
        self, *, epsilon: float = 8 / 255, iterations: int = 20, images: int = 500
    ) -> Robustness:
        """Measure the accuracy of the global model on adversarial test images.

        Args:
            epsilon: Largest change of a pixel, on pixels in [0, 1].
            iterations: Number of iterations of PGD and of WITCHcraft.
            images: Largest number of test images; the first of the test set are taken.

        Raises:
            BadInput: If a number is out of range.
        """
        if not 0 < epsilon <= 1 or iterations < 1 or images < 1:
            raise BadInput(
                f"epsilon is in (0, 1] and there is at least one iteration and image, not {epsilon}"
                f", {iterations} and {images}"
            )
        self.federated.load(self._loop.state)
        return robustness(
            self.federated.model,
            self.federated.data.test_images[:images],
            self.federated.data.test_labels[:images],
            self.federated.data.normalise,
            epsilon=epsilon,
            iterations=iterations,
            generator=generator(self.scenario.seed, "evasion", self.round),
        )

    @names_network(lambda self: self.federated.network)
    def ntk(self, *, images: int = 25) -> TangentKernel:
        """Compute the neural tangent kernel of the global model on test images.

        Its correlation with that of an earlier round says how far training has moved it:
        ``federation.ntk().correlation(earlier)``.

        Args:
            images: Number of images, at least 1, the first of the test set; each takes as many
                backward passes as there are classes.

        Raises:
            BadInput: If there is no image, or the derivatives do not fit into memory.
        """
        return tangent_kernel(self.federated.model, self._inputs(images))

    @names_network(lambda self: self.federated.network)
    def activity(self, *, images: int = 500) -> Activity:
        """Measure which ReLUs of the global model are on for test images.

        Weights with all of them off or on, such as those of ``model.bias_start``, come from no
        training.

        Args:
            images: Largest number of test images, at least 1; the first of the test set are taken.

        Raises:
            BadInput: If there is no image, or the network has no ``nn.ReLU`` module.
        """
        return relu_activity(self.federated.model, self._inputs(images))

    def _inputs(self, images: int) -> Tensor:
        """The first test images as the network takes them; the global weights are loaded."""
        if images < 1:
            raise BadInput(f"at least one image is needed, not {images}")
        self.federated.load(self._loop.state)
        return self.federated.network_input(self.federated.data.test_images[:images])
