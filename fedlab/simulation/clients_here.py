"""The clients of a simulation on this machine: in this process, or shared among several."""

from fedlab.client.federated_data import FederatedData
from fedlab.core.errors import BadInput
from fedlab.core.processes import cores, is_worker
from fedlab.engine import Grid
from fedlab.engine.in_process import in_process
from fedlab.engine.workers import WorkersGrid
from fedlab.scenario.scenario import Scenario
from fedlab.simulation.foreign_plugins import defined_in_main


def clients_here(federated: FederatedData, scenario: Scenario) -> Grid:
    """Make the grid of a simulation on this machine.

    Args:
        federated: Images of all clients, and the network that they share.
        scenario: The scenario, which states the number of processes.

    Raises:
        BadInput: If several processes are asked for where there can be one only.
    """
    asked = scenario.engine.workers
    reason = _why_alone(federated, scenario)
    if asked != "auto" and asked > 1 and reason:
        raise BadInput(f"engine.workers is {asked}, but {reason}: set it to 1 or leave it out")
    count = cores() // scenario.engine.threads if asked == "auto" else asked
    if reason or count < 2 or scenario.data.clients < 2 or (asked == "auto" and is_worker()):
        return in_process(federated, scenario.data.clients)
    return WorkersGrid(federated, scenario, count=count, at_once=asked != "auto")


def _why_alone(federated: FederatedData, scenario: Scenario) -> str:
    if federated.device.type == "cuda":
        return "processes would share one GPU"
    if scenario.engine.deployed:
        return "the clients are other machines"
    if own := defined_in_main(scenario):
        return f"{own} is defined in the notebook or script that runs"
    return ""
