"""The server's own update, from clean images that no client holds: what FLTrust measures by."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from fedlab.client.client_round import run_client_round
from fedlab.client.federated_data import FederatedData
from fedlab.protocol.planning import task_for
from fedlab.scenario.scenario import Scenario

State = Mapping[str, Tensor]


def root_training(federated: FederatedData, scenario: Scenario) -> Callable[[int, State], State]:
    """Local training on the root images, as an honest client without a defense would do it.

    Args:
        federated: Whose ``root`` images they are, and whose network is borrowed.
        scenario: For the local training.

    Returns:
        From the number of a round and the global state to that state after training, on the CPU;
        the same bits each time.
    """
    place = len(federated.partitions)  # one more client, whom no schedule names
    own = replace(federated, partitions=(*federated.partitions, federated.root))
    alone = scenario.changed(roles=[], defenses=[])

    def trained(round: int, state: State) -> State:
        task = task_for(alone, round=round, client=place)
        sent = {name: value.to(federated.device) for name, value in state.items()}
        done = run_client_round(task, own, sent, ())
        return {name: value.cpu() for name, value in {**state, **done.sent.tensors}.items()}

    return trained
