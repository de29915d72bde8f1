"""Checks of a scenario against the data and the network, before anything runs."""

from fedlab.client.federated_data import FederatedData
from fedlab.core.errors import BadInput
from fedlab.protocol.planning import check_collusion
from fedlab.scenario.scenario import Scenario
from fedlab.server.secure_sum import refuse_what_needs_single_replies


def refuse_what_cannot_work(scenario: Scenario, federated: FederatedData) -> None:
    """Refuse a scenario that no round could carry out.

    Args:
        scenario: The scenario.
        federated: Its data and network.

    Raises:
        BadInput: If colluders lack what they need, secure aggregation hides what the server needs,
            or a defense cannot work with the network.
    """
    refuse_what_needs_single_replies(scenario)
    check_collusion(scenario)
    federated.model.train(scenario.training.mode == "train")
    for entry in dict.fromkeys(scenario.defenses):
        problem = entry.network_problem(federated.model, federated.data.shape)
        if problem:
            raise BadInput(problem)
