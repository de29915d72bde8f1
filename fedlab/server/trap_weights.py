"""Trap weights in a federation: where they work, and for how many images they are made."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from attacks.malicious_server.traps import check_traps
from fedlab.core.errors import BadInput
from fedlab.protocol.task import ClientTask
from fedlab.protocol.workload import workload
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import TrapWeights
from fedlab.server.secure_sum import members

State = Mapping[str, Tensor]
"""Parameters and buffers by name."""

MakeTraps = Callable[[int, int, State], State]
"""Maker of trap weights: from a round, the number of images of which a unit should catch one, and
the global state to the state that is sent."""


def refuse_impossible_traps(
    scenario: Scenario,
    model: nn.Module,
    shape: tuple[int, int, int],
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> None:
    """Refuse trap weights where the network does not suit, or for a part of a secure sum.

    Args:
        scenario: The scenario.
        model: The network, in the mode of the clients.
        shape: Channels, height and width of an image.
        mean: Mean of the public normalisation for each channel.
        std: Standard deviation of the public normalisation for each channel.

    Raises:
        BadInput: If the server is to send trap weights and cannot.
    """
    if not isinstance(scenario.server.malicious, TrapWeights):
        return
    try:
        draws = torch.Generator().manual_seed(0)
        check_traps(model, shape=shape, generator=draws, mean=mean, std=std)
    except ValueError as error:
        raise BadInput(f"server.malicious: {error}") from error
    for round in range(1, scenario.rounds + 1):
        together = members(scenario, round=round, clients=range(scenario.data.clients))
        trapped = [scenario.malicious_attack(round=round, client=each) for each in together]
        if any(trapped) and not all(trapped):
            raise BadInput(
                f"server.malicious: in round {round} only some clients of a secure sum are sent "
                "trap weights, and what they catch drowns in the gradients of the others: name "
                "all clients of the sum, or none"
            )


def images_behind(
    scenario: Scenario, tasks: Mapping[int, ClientTask], images: Mapping[int, int]
) -> int:
    """The number of images of which each unit should catch one.

    Args:
        scenario: The experiment as it is in the round, with trap weights.
        tasks: Tasks of the clients that are sent trap weights.
        images: Number of images of each client that is there.

    Returns:
        The number that the scenario names; by default the largest number of images behind one
        update or sum, at least 1.
    """
    malicious = scenario.server.malicious
    if isinstance(malicious, TrapWeights) and malicious.batch_size is not None:
        return malicious.batch_size
    each = {}
    for client in tasks.keys() & images.keys():
        work = workload(tasks[client].role, tasks[client].training, images[client])
        each[client] = work.records // work.epochs
    round = next(iter(tasks.values())).round
    together = members(scenario, round=round, clients=each)
    return max(1, sum(each[client] for client in together), *each.values())
