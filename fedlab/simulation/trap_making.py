"""The trap weights of a malicious server, made from the public images of a federation."""

from attacks.malicious_server.traps import set_traps
from fedlab.client.federated_data import FederatedData, reference_images
from fedlab.core.seeds import generator
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import TrapWeights
from fedlab.server.trap_weights import MakeTraps, State


def trap_making(federated: FederatedData, scenario: Scenario) -> MakeTraps | None:
    """Maker of the trap weights of each round, which catch other images in every round.

    Args:
        federated: Data with the public images, and the network.
        scenario: Scenario with the rule.

    Returns:
        A function of round, number of images and global state that returns the tampered state, on
        the CPU and with the same bits each time; ``None`` if the server sends no trap weights.
    """
    malicious = scenario.server.malicious
    if not isinstance(malicious, TrapWeights):
        return None

    def make(round: int, images: int, state: State) -> State:
        data = federated.data
        sent = set_traps(
            federated.model,
            {name: value.to(federated.device) for name, value in state.items()},
            shape=data.shape,
            rule=malicious.rule,
            batch_size=images,
            generator=generator(scenario.seed, "trap weights", round),
            mean=data.mean,
            std=data.std,
            reference=reference_images(data),
            norm=malicious.norm,
        )
        return {name: value.cpu() for name, value in sent.items()}

    return make
