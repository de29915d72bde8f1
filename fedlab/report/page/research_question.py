"""The research question of a scenario, as one sentence."""

from collections.abc import Callable, Sequence

from fedlab.report.tables.naming import spelled
from fedlab.report.tables.numbers import counted, listed
from fedlab.report.verdicts.run import attack_names
from fedlab.scenario.scenario import Scenario


def research_question(scenario: Scenario, *, defenses: Sequence[str] | None = None) -> str:
    """Put the research question of a scenario into one sentence.

    Args:
        scenario: The experiment.
        defenses: Defenses that are compared; those of the scenario unless given.

    Example:
        >>> research_question(Scenario(rounds=2, roles=[{"role": "leaking", "clients": "0"}]))
        'How well does a federation of 10 clients learn in 2 rounds?'
    """

    def clients_where(condition: Callable[[int, int], bool]) -> str:
        rounds = range(1, scenario.rounds + 1)
        found = [c for c in range(scenario.data.clients) if any(condition(r, c) for r in rounds)]
        return f"client{'s' * (len(found) > 1)} {spelled(found)}" if found else ""

    parts = []
    if victims := clients_where(
        lambda round, client: bool(scenario.reconstructions_on(round=round, client=client))
    ):
        server = "a malicious server" if scenario.server.malicious else "the server"
        parts.append(f"can {server} reconstruct the images of {victims} from their updates")
    if poisoners := clients_where(
        lambda round, client: scenario.role(round=round, client=client).role == "poisoning"
    ):
        attacks = listed(list(dict.fromkeys(map(attack_names, scenario.poisons))))
        parts.append(f"can {poisoners} steer the model by {attacks}")
    if not parts:
        clients = counted(scenario.data.clients, "client")
        rounds = counted(scenario.rounds, "round")
        return f"How well does a federation of {clients} learn in {rounds}?"
    names = list(dict.fromkeys(e.name for e in scenario.defenses) if defenses is None else defenses)
    if names:
        does = "does" if len(names) == 1 else "do"
        parts.append(f"what {does} {listed(names)} change")
    question = ", and ".join(parts)
    return f"{question[0].upper()}{question[1:]}?"
