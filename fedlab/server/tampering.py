"""The tampered states that a malicious server sends instead of the global one."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from attacks.malicious_server.fishing import fish_class, last_layer
from attacks.malicious_server.imprint import BLOCK
from fedlab.core.errors import BadInput
from fedlab.protocol.task import ClientTask
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import ClassFishing, Imprint, TrapWeights
from fedlab.server.secure_sum import members
from fedlab.server.suppression import suppressed_state, target_of
from fedlab.server.trap_weights import MakeTraps, images_behind

State = Mapping[str, Tensor]
"""Parameters and buffers by name."""


def imprint_block(scenario: Scenario, state: State) -> dict[str, Tensor]:
    """Parameters of the imprint block as it was made; empty if the server makes none.

    They are put back after every round, since a single step of training would blur them.
    """
    if not isinstance(scenario.server.malicious, Imprint):
        return {}
    return {name: value for name, value in state.items() if name.startswith(f"{BLOCK}.")}


def refuse_impossible_fishing(scenario: Scenario, state: State, parameters: Iterable[str]) -> None:
    """Refuse class fishing with a network that has no suitable last layer.

    Raises:
        BadInput: If there is no such layer.
    """
    malicious = scenario.server.malicious
    if isinstance(malicious, ClassFishing):
        try:
            _fish(state, parameters, malicious)
        except ValueError as error:
            raise BadInput(f"server.malicious: {error}") from error


def states_to_send(
    scenario: Scenario,
    tasks: Mapping[int, ClientTask],
    state: State,
    parameters: Iterable[str],
    *,
    images: Mapping[int, int],
    make_traps: MakeTraps | None,
) -> dict[int, State]:
    """Choose what each client is sent: the global state, or one that the server tampered with.

    It fishes for a class, sets traps for single images, or suppresses the gradients of all clients
    of a sum but one.

    Args:
        scenario: The experiment.
        tasks: Task of each client of the round.
        state: Global parameters and buffers.
        parameters: Names of the parameters.
        images: Number of images of each client that is there.
        make_traps: Maker of trap weights, where the scenario has them.
    """
    attacks = {
        client: scenario.malicious_attack(round=task.round, client=client)
        for client, task in tasks.items()
    }
    fishing = next((each for each in attacks.values() if isinstance(each, ClassFishing)), None)
    tampered = _fish(state, parameters, fishing) if fishing else state
    trapped = {c: tasks[c] for c, each in attacks.items() if isinstance(each, TrapWeights)}
    if trapped and make_traps is not None:
        round = next(iter(tasks.values())).round
        tampered = make_traps(round, images_behind(scenario, trapped, images), state)
    target = target_of(scenario, tasks)
    if target is not None:
        dead = suppressed_state(state, parameters)
        together = members(scenario, round=tasks[target].round, clients=tasks)
        silent = set(together) - {target}
        return {client: dead if client in silent else state for client in tasks}
    return {
        client: tampered if isinstance(each, ClassFishing | TrapWeights) else state
        for client, each in attacks.items()
    }


def _fish(state: State, parameters: Iterable[str], fishing: ClassFishing) -> dict[str, Tensor]:
    """The global state with a last layer that only images of one class get through."""
    own = {name: state[name] for name in parameters}
    weight, bias = last_layer(own)
    return {**state, **fish_class(own, weight=weight, bias=bias, target=fishing.target)}
