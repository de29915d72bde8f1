"""The server's own update, from clean images that no client holds: what FLTrust measures by."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from fedlab.client.site import Site
from fedlab.client.work import work
from fedlab.planning import plan_for
from fedlab.scenario import Scenario

State = Mapping[str, Tensor]


def root_training(site: Site, scenario: Scenario) -> Callable[[int, State], State]:
    """Local training on the root images, as an honest client without a defense would do it.

    Args:
        site: Whose ``root`` images they are, and whose network is borrowed.
        scenario: For the local training.

    Returns:
        From the number of a round and the global state to that state after training, on the CPU;
        the same bits each time.
    """
    place = len(site.partitions)  # one more client, whom no schedule names
    own = replace(site, partitions=(*site.partitions, site.root))
    alone = scenario.changed(roles=[], defenses=[])

    def trained(round: int, state: State) -> State:
        plan = plan_for(alone, round=round, client=place)
        sent = {name: value.to(site.device) for name, value in state.items()}
        done = work(plan, own, sent, ())
        return {name: value.cpu() for name, value in {**state, **done.sent.tensors}.items()}

    return trained
