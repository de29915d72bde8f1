"""Checks of a scenario against the data and the network, before anything runs."""

from fedlab.client.federated_data import FederatedData
from fedlab.core.errors import BadInput
from fedlab.models.checks import training_problem
from fedlab.poisoning import ColludingAttack
from fedlab.protocol.planning import check_collusion
from fedlab.protocol.workload import workload
from fedlab.scenario.roles import Leaking, Role
from fedlab.scenario.scenario import Scenario
from fedlab.server.secure_sum import refuse_what_needs_single_replies
from fedlab.server.suppression import refuse_impossible_suppression
from fedlab.server.trap_weights import refuse_impossible_traps


def refuse_what_cannot_work(scenario: Scenario, federated: FederatedData) -> None:
    """Refuse a scenario that no round could carry out.

    Args:
        scenario: The scenario.
        federated: Its data and network.

    Raises:
        BadInput: If colluders lack what they need, secure aggregation hides what the server needs,
            the network cannot be trained, sent, suppressed or trapped, or a defense cannot work
            with it.
    """
    refuse_what_needs_single_replies(scenario)
    check_collusion(scenario)
    _refuse_unsendable_tensors(federated)
    federated.model.train(scenario.training.mode == "train")
    data = federated.data
    refuse_impossible_suppression(scenario, federated.model, data.shape, federated.sizes)
    refuse_impossible_traps(scenario, federated.model, data.shape, mean=data.mean, std=data.std)
    for entry in dict.fromkeys(scenario.defenses):
        problem = entry.network_problem(federated.model, federated.data.shape)
        if problem:
            raise BadInput(problem)
    if problem := training_problem(federated.model, federated.data.shape, 2):
        raise BadInput(f"{federated.network} cannot be trained: {problem}")
    _refuse_single_images(scenario, federated)


def refuse_what_needs_all_images(scenario: Scenario) -> None:
    """Refuse in a deployment what only one process with the images of all clients can do.

    Args:
        scenario: The scenario as the user wrote it.

    Raises:
        BadInput: If the scenario is for a deployment and asks for such a thing.
    """
    if not scenario.engine.deployed:
        return
    needs = {
        "audit needs the images of its client: leave the table [audit] out": scenario.audit,
        "target_epsilon needs the clients' numbers of images before they appear: give "
        "noise_multiplier": any(entry.target is not None for entry in scenario.defenses),
        'the server knows no labels and no order: set labels = "inferred" and order = "sequential" '
        'or "average" in [[reconstructions]]': any(
            entry.labels == "known" or entry.order == "known" for entry in scenario.reconstructions
        ),
        "colluding clients need the updates of others: leave their role out": any(
            isinstance(role.update, ColludingAttack) for role in scenario.poisons
        ),
    }
    for problem, needed in needs.items():
        if needed:
            raise BadInput(f'with engine.name = "deployment", {problem}')


def _refuse_unsendable_tensors(federated: FederatedData) -> None:
    for name, tensor in federated.state.items():
        try:
            tensor.numpy()
        except (TypeError, RuntimeError) as error:
            raise BadInput(
                f'{federated.network}: "{name}" is {tensor.dtype}, which messages between server '
                "and clients cannot hold: make the network of float32"
            ) from error


def _refuse_single_images(scenario: Scenario, federated: FederatedData) -> None:
    """Refuse batches of one image if the network, such as one with BatchNorm, cannot take them."""
    problem = training_problem(federated.model, federated.data.shape, 1)
    if problem is None:
        return
    for client, images in federated.sizes.items():
        for round in range(1, scenario.rounds + 1):
            role = scenario.role(round=round, client=client)
            work = workload(role, scenario.training, images)
            if work.batch_size == 1 or work.records // work.epochs % work.batch_size == 1:
                raise BadInput(
                    f"{federated.network} cannot be trained on a batch of one image, which client "
                    f"{client} with its {images} images has in round {round} ({problem}): "
                    f"{_larger_batch(role, scenario, federated)}use GroupNorm instead of "
                    'BatchNorm (model.norm = "group")'
                )


def _larger_batch(role: Role, scenario: Scenario, federated: FederatedData) -> str:
    """The way out by another size of the batch, if there is one, and the word before the next."""
    sizes = federated.sizes.values()
    if 1 in sizes:
        return ""
    if isinstance(role, Leaking):
        return "give the leaking role batch_size = 2, or "
    least = max(2, scenario.training.batch_size)
    fitting = range(least, max(*sizes, least) + 1)
    size = next(size for size in fitting if all(each % size != 1 for each in sizes))
    return f"set training.batch_size = {size}, or "
