"""The threat model of a scenario: what each party does, and what the attacker knows."""

from collections.abc import Iterable
from typing import Protocol

from attacks.knowledge import MOST_IMAGES
from fedlab.report.tables.numbers import counted
from fedlab.report.verdicts.run import attack_names
from fedlab.scenario.roles import Leaking, Poisoning
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import NO_PROTECTION, Imprint, Reconstruct

_ORDERS = {
    "known": "the attacker is given the images of every local step",
    "sequential": "local steps are assumed to use the images in the same order in every epoch",
    "average": "the attacker averages over the order of local steps",
}
_MODES = {
    "announced": "the mode that the server asked for",
    "train": "training mode",
    "eval": "evaluation mode",
}
_KNOWS = {
    "colluders": " They know the honest updates of their colluders.",
    "everyone": " They know all honest updates, which is an upper bound.",
}
_STRENGTHS = frozenset(
    {"noise_multiplier", "clipping_norm", "k", "noise", "scale", "share", "bits", "size", "target"}
)
"""Settings of defenses that are listed even at their default value."""


def threat_model(scenario: Scenario, *, arms: Iterable[Scenario] = ()) -> list[tuple[str, str]]:
    """Describe server, clients, attacks and defenses of a scenario.

    Args:
        scenario: The scenario of a run, or what all runs of a comparison share.
        arms: Scenarios of all runs of a comparison, whose defenses may hide single updates.

    Returns:
        Pairs of a term and one or more sentences about it, in reading order.
    """
    leaking = [entry for entry in scenario.roles if isinstance(entry, Leaking)]
    poisoning = [entry for entry in scenario.roles if isinstance(entry, Poisoning)]
    return [
        ("Server", _server(scenario)),
        *(("Leaking clients", _leaking(entry)) for entry in leaking),
        ("Other clients", _others(scenario)),
        *(("Attack on updates", _attack(entry)) for entry in scenario.reconstructions),
        ("Public", _public(scenario)),
        ("Hidden from the attacker", _hidden([scenario, *arms])),
        *(("Poisoning", _poisoning(entry)) for entry in poisoning),
        *(("Defense", text) for text in defense_settings(scenario)),
    ]


def defense_settings(scenario: Scenario) -> list[str]:
    """One sentence on each scheduled defense: its clients, its rounds and its settings."""
    sentences = []
    for entry in scenario.defenses:
        settings = entry.model_dump(exclude_none=True, exclude={"name", "rounds", "clients"})
        changed = entry.model_dump(exclude_defaults=True)
        values = [
            f"{key} {_text(value)}"
            for key, value in settings.items()
            if key in _STRENGTHS or key in changed
        ]
        sentences.append(f"{entry.name}, {_where(entry)}{': ' * bool(values)}{', '.join(values)}.")
    return sentences


def _server(scenario: Scenario) -> str:
    server, malicious = scenario.server, scenario.server.malicious
    cohort = f" over {server.cohort} clients sampled each round" if server.cohort else ""
    rule = f"It aggregates by {server.strategy}{cohort}."
    if server.central_dp:
        rule += f" It adds differential privacy to the aggregate; {NO_PROTECTION}."
    if malicious is None:
        return f"Honest but curious: it follows the protocol and analyses what it receives. {rule}"
    if isinstance(malicious, Imprint):
        return (
            f"Malicious: it inserts a block of {malicious.bins} bins before the network, which "
            f"writes single images into gradients. Clients can see the block. {rule}"
        )
    return (
        f"Malicious: it sends clients {malicious.clients} in rounds {malicious.rounds} a last "
        f"layer through which only class {malicious.target} has a gradient. Clients can see "
        f"the layer. {rule}"
    )


def _leaking(entry: Leaking) -> str:
    expected = " (expected size of a Poisson sample)" if entry.sampling == "poisson" else ""
    return (
        f"{_where(entry).capitalize()}: they send the raw gradient of one batch of "
        f"{counted(entry.batch_size, 'image')}{expected}, which leaks most."
    )


def _others(scenario: Scenario) -> str:
    training = scenario.training
    buffers = (
        "They send BatchNorm statistics too, so their rounds count as unprotected."
        if training.share_buffers
        else "BatchNorm statistics stay with the clients."
    )
    return (
        f"They send weights after {counted(training.epochs, 'local epoch')} of SGD in batches of "
        f"{training.batch_size}. {buffers} Losses and accuracies on private images stay with the "
        f"clients. Updates of more than {MOST_IMAGES} images are not attacked."
    )


def _attack(entry: Reconstruct) -> str:
    labels = "known" if entry.labels == "known" else "inferred from the update"
    adapted = "is tuned to the active defense" if entry.adapt else "is tuned to open updates"
    return (
        f"{entry.preset} on {_where(entry)}. Labels are {labels}; {_ORDERS[entry.order]}; the "
        f"network is simulated in {_MODES[entry.mode]}. The attack {adapted}."
        + (
            f" It stops after {entry.seconds:g} s at most; results depend on the machine."
            if entry.seconds
            else ""
        )
    )


def _public(scenario: Scenario) -> str:
    labels = " Labels are declared public by the scenario." * scenario.privacy.labels_public
    return (
        "The network and the global weights of the round, the normalisation of images, the number "
        "of images and local steps of an update, learning rate, momentum and batch size, and the "
        f"scheduled defenses with their settings.{labels}"
    )


def _hidden(scenarios: Iterable[Scenario]) -> str:
    summed = any(entry.sums_updates for each in scenarios for entry in each.defenses)
    return (
        "Images, seeds, and the noise of defenses. Only the evaluation knows them, to score the "
        "attacks." + " Under secure aggregation the server sees only the sum of updates." * summed
    )


def _poisoning(entry: Poisoning) -> str:
    obeys = "run the scheduled defenses" if entry.runs_defenses else "run no defense"
    knows = _KNOWS.get(getattr(entry.update, "knows", ""), "")
    return f"{_where(entry).capitalize()}: {attack_names(entry)}. They {obeys}.{knows}"


class _Scheduled(Protocol):
    @property
    def rounds(self) -> str: ...

    @property
    def clients(self) -> str: ...


def _where(entry: _Scheduled) -> str:
    """Clients and rounds of an entry in words."""

    def spelled(noun: str, numbers: str) -> str:
        return f"all {noun}s" if numbers == "all" else f"{_plural(noun, numbers)} {numbers}"

    return f"{spelled('client', entry.clients)} in {spelled('round', entry.rounds)}"


def _plural(noun: str, numbers: str) -> str:
    return noun if numbers.isdecimal() else f"{noun}s"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
