"""Who is assumed to do and to know what, read off a scenario."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from attacks.knowledge import MOST_IMAGES
from fedlab.core.settings import Settings
from fedlab.report.verdicts.run import attack_names
from fedlab.scenario.roles import Leaking, Poisoning
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import NO_PROTECTION, Imprint, Reconstruct

_ORDERS = {
    "known": "the images of every local step are granted",
    "sequential": "local steps are assumed to take the images in the same order in every epoch",
    "average": "the order of local steps is averaged over",
}
_MODES = {
    "announced": "the mode that the server asked for",
    "train": "training mode",
    "eval": "evaluation mode",
}
_STRENGTHS = frozenset(
    {"noise_multiplier", "clipping_norm", "k", "noise", "scale", "share", "bits", "size", "target"}
)
"""Settings of a defense that are told even where they are its own defaults."""


def threat_model(scenario: Scenario, *, arms: Iterable[Scenario] = ()) -> list[tuple[str, str]]:
    """Terms and what holds of each, in the order in which a reader asks.

    Args:
        scenario: Of a run, or what the runs of a comparison share.
        arms: Of a comparison, what was run: defenses may hide replies there.
    """
    return [
        ("Server", _server(scenario)),
        *(("Leaking clients", text) for text in _leaking(scenario)),
        ("Other clients", _others(scenario)),
        *(("Attack on updates", _attack(entry)) for entry in scenario.reconstructions),
        ("Public", _public(scenario)),
        ("Hidden from the attacker", _hidden([scenario, *arms])),
        *(("Poisoning", text) for text in _poisoning(scenario)),
        *(("Defense", text) for text in defense_settings(scenario)),
    ]


def _server(scenario: Scenario) -> str:
    server = scenario.server
    cohort = f", of {server.cohort} clients sampled each round" if server.cohort else ""
    rule = f"It aggregates by {server.strategy}{cohort}."
    if server.central_dp:
        rule += f" It adds differential privacy to what it aggregates; {NO_PROTECTION}."
    if server.malicious is None:
        return f"Honest but curious: it follows the protocol and looks at what it gets. {rule}"
    if isinstance(server.malicious, Imprint):
        return (
            f"Malicious: it puts a block of {server.malicious.bins} bins in front of the network "
            f"that writes single images into gradients, which clients can see. {rule}"
        )
    fished = server.malicious
    return (
        f"Malicious: it sends clients {fished.clients} in rounds {fished.rounds} a last layer "
        f"through which class {fished.target} alone sends a gradient, which they can see. {rule}"
    )


def _leaking(scenario: Scenario) -> Iterator[str]:
    for entry in scenario.roles:
        if isinstance(entry, Leaking):
            drawn = " (expected, drawn by Poisson)" if entry.sampling == "poisson" else ""
            yield (
                f"{_where(entry).capitalize()}: the raw gradient of one "
                f"batch of {entry.batch_size}{drawn}, the payload that shows most."
            )


def _others(scenario: Scenario) -> str:
    training = scenario.training
    buffers = (
        "BatchNorm statistics travel too, and count as open"
        if training.share_buffers
        else "BatchNorm statistics stay with the clients"
    )
    return (
        f"Weights after {training.epochs} local epoch{'s' * (training.epochs > 1)} of SGD in "
        f"batches of {training.batch_size}. {buffers}. Losses and accuracies on private images do "
        f"not travel. Updates of more than {MOST_IMAGES} images are not attacked."
    )


def _attack(entry: Reconstruct) -> str:
    labels = "granted" if entry.labels == "known" else "inferred from the update"
    adapted = (
        "the attack is re-tuned for the defense that is on"
        if entry.adapt
        else "the attack stays as it is tuned for open updates"
    )
    budget = ""
    if entry.seconds:
        budget = f"; {entry.seconds:g} s at most, so that results depend on the machine"
    return (
        f"{entry.preset} against {_where(entry)}: labels are {labels}; "
        f"{_ORDERS[entry.order]}; the network is simulated in {_MODES[entry.mode]}; "
        f"{adapted}{budget}."
    )


def _public(scenario: Scenario) -> str:
    labels = ", and, by the scenario's declaration, labels" * scenario.privacy.labels_public
    return (
        "The network and the global weights of the round, the normalisation of images, the number "
        "of images and local steps behind an update, learning rate, momentum and batch size, and "
        f"which defenses are scheduled with their settings{labels}."
    )


def _hidden(scenarios: Iterable[Scenario]) -> str:
    masked = any(e.name == "secure-aggregation" for each in scenarios for e in each.defenses)
    sums = " Where secure aggregation is on, single replies: it sees their sum." * masked
    return (
        "Images, seeds, and the noise of defenses. The evaluation alone sees both sides, and only "
        f"to score.{sums}"
    )


def _poisoning(scenario: Scenario) -> Iterator[str]:
    for entry in scenario.roles:
        if isinstance(entry, Poisoning):
            obeys = "run the scheduled defenses" if entry.runs_defenses else "run no defense"
            knows = getattr(entry.update, "knows", None)
            seen = {
                None: "",
                "colluders": " They know the honest updates of those they collude with.",
                "everyone": " They know all honest updates, an upper bound.",
            }[knows]
            yield (f"{_where(entry).capitalize()}: {attack_names(entry)}. They {obeys}.{seen}")


def defense_settings(scenario: Scenario) -> Iterator[str]:
    """Each scheduled defense in a sentence: for whom, and how strong it is."""
    for entry in scenario.defenses:
        given = entry.model_dump(exclude_none=True, exclude={"name", "rounds", "clients"})
        usual = type(entry)().model_dump() if _has_defaults(type(entry)) else {}
        told = [
            f"{key} {_text(value)}"
            for key, value in given.items()
            if key in _STRENGTHS or value != usual.get(key)
        ]
        yield f"{entry.name}, {_where(entry)}" + (f": {', '.join(told)}" if told else "") + "."


def _has_defaults(kind: type[Settings]) -> bool:
    return not any(field.is_required() for field in kind.model_fields.values())


class _Scheduled(Protocol):
    @property
    def rounds(self) -> str: ...

    @property
    def clients(self) -> str: ...


def _where(entry: _Scheduled) -> str:
    """Its clients and rounds as words."""
    clients, rounds = entry.clients, entry.rounds
    who = (
        "all clients" if clients == "all" else f"client{'s' * (not clients.isdecimal())} {clients}"
    )
    if rounds == "all":
        return f"{who} in all rounds"
    return f"{who} in round{'s' * (not rounds.isdecimal())} {rounds}"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
