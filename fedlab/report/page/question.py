"""The question that a scenario asks, in its own words."""

from collections.abc import Sequence

from fedlab.core.schedule import spell
from fedlab.report.tables.numbers import listed
from fedlab.report.verdicts.run import attack_names
from fedlab.scenario.scenario import Scenario


def question(scenario: Scenario, *, defenses: Sequence[str] | None = None) -> str:
    """One sentence that ends with a question mark.

    Args:
        scenario: The experiment.
        defenses: That are compared; those of the scenario unless given.

    Example:
        >>> question(Scenario(rounds=2, roles=[{"role": "leaking", "clients": "0"}]))
        'How well does a federation of 10 clients learn in 2 rounds?'
    """
    parts = [*_leaks(scenario), *_poisons(scenario)]
    if not parts:
        return (
            f"How well does a federation of {scenario.data.clients} clients learn in "
            f"{scenario.rounds} round{'s' * (scenario.rounds > 1)}?"
        )
    names = list(dict.fromkeys(e.name for e in scenario.defenses) if defenses is None else defenses)
    asked = f"{', and '.join(parts)}{_end(names)}?"
    return asked[0].upper() + asked[1:]


def _end(defenses: list[str]) -> str:
    if not defenses:
        return ""
    return f", and what do{'es' * (len(defenses) == 1)} {listed(defenses)} do about it"


def _leaks(scenario: Scenario) -> list[str]:
    attacked = {
        client
        for client in range(scenario.data.clients)
        for round in range(1, scenario.rounds + 1)
        if scenario.reconstructions_on(round=round, client=client)
    }
    if not attacked:
        return []
    server = "a malicious server" if scenario.server.malicious else "the server"
    return [f"can {server} rebuild the images of {_clients(attacked)} from what they send"]


def _poisons(scenario: Scenario) -> list[str]:
    who = {
        client
        for client in range(scenario.data.clients)
        for round in range(1, scenario.rounds + 1)
        if scenario.role(round=round, client=client).role == "poisoning"
    }
    if not who:
        return []
    names = list(dict.fromkeys(map(attack_names, scenario.poisons)))
    return [f"can {_clients(who)} steer the model by {listed(names)}"]


def _clients(who: set[int]) -> str:
    return f"client{'s' * (len(who) > 1)} {spell(who)}"
