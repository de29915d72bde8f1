"""The server's own update, trained on clean images that no client has; FLTrust compares with it."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from fedlab.client.client_round import run_client_round
from fedlab.client.federated_data import FederatedData
from fedlab.protocol.planning import task_for
from fedlab.scenario.scenario import Scenario

State = Mapping[str, Tensor]


def root_training(
    federated: FederatedData, scenario: Scenario
) -> Callable[[int, State], State] | None:
    """Local training on the server's root images, as an honest client without a defense trains.

    Args:
        federated: Data with the root images, and the network that is trained.
        scenario: Scenario with the settings of local training.

    Returns:
        A function of round and global state that returns the state after training, on the CPU and
        with the same bits each time; ``None`` if the aggregation rule needs no root images.
    """
    if not scenario.server.needs_root:
        return None
    place = len(federated.partitions)  # one client more, which no schedule names
    own = replace(federated, partitions=(*federated.partitions, federated.root))
    alone = scenario.changed(roles=[], defenses=[])

    def trained(round: int, state: State) -> State:
        task = task_for(alone, round=round, client=place)
        sent = {name: value.to(federated.device) for name, value in state.items()}
        done = run_client_round(task, own, sent, ())
        return {name: value.cpu() for name, value in {**state, **done.sent.tensors}.items()}

    return trained
