"""What a scenario will cost, computed before anything runs: privacy, time and memory.

Privacy follows from public facts alone: the schedule, the sampled cohorts, and the number of images
of each client. Time and memory are those of one client of each kind, which is tried.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

import psutil
import torch

from fedlab.client.client_round import run_client_round
from fedlab.client.federated_data import FederatedData
from fedlab.core.devices import prepare
from fedlab.core.errors import BadInput
from fedlab.core.schedule import resolve_clients, spell
from fedlab.defenses import Defense
from fedlab.evaluation.model import evaluate
from fedlab.privacy.ledger import Ledger
from fedlab.privacy.release import History
from fedlab.protocol.declared_cost import PublicSizes, expected_cost
from fedlab.protocol.planning import sample_cohort, task_for
from fedlab.scenario.scenario import Scenario
from fedlab.simulation.projection import calibrated
from fedlab.simulation.workers import workers_of

NOISE = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Noise multipliers of the table of noise against epsilon, unless a target needs others."""


@dataclass(frozen=True)
class Cost:
    """Estimated time and memory of a run, without its reconstruction attacks.

    Attributes:
        seconds: Wall time of all rounds in seconds, shared by the processes of the run.
        processes: Number of these processes.
        memory: Memory of one of them in bytes.
        attacked: Number of updates that are attacked, whose time is not counted.
    """

    seconds: float
    processes: int
    memory: int
    attacked: int


@dataclass(frozen=True)
class Plan:
    """The privacy accounts at the end of a scenario, if all that it schedules takes place.

    Attributes:
        scenario: The scenario with every target epsilon replaced by noise.
        ledger: Each client's account after all rounds.
        federated: Images of all clients, and the network.
        solved: For each defense that had a target epsilon the noise multiplier that is enough for
            all its clients, as a text such as ``dp-sgd: noise_multiplier = 1.23 for clients 0-9``.
    """

    scenario: Scenario
    ledger: Ledger
    federated: FederatedData
    solved: tuple[str, ...]

    @property
    def epsilon(self) -> float:
        """The largest epsilon of protected rounds over clients and accounts; NaN without any."""
        found = [
            value
            for account in self.ledger.accounts
            for client in self.ledger.histories
            if (value := self.ledger.protected(client, account)) is not None
        ]
        return max(found, default=float("nan"))

    def ceiling(self, pool: int) -> float | None:
        """The largest share of images that any attack can find among ``pool`` equally likely ones.

        ``None`` if no client takes part, or the accountant certifies nothing.
        """
        found = [self.ledger.ceiling(client, pool) for client in self.ledger.histories]
        return max((each for each in found if each is not None), default=None)


def plan(scenario: Scenario, federated: FederatedData | None = None) -> Plan:
    """Compute what a scenario will cost in privacy, without running it.

    A budget may stop a client earlier, and a client that fails spends less.

    Args:
        scenario: The scenario.
        federated: Its images, if they are loaded already.

    Raises:
        BadInput: If it cannot work: images are missing, or no noise reaches a target.

    Example:
        >>> dp = {"name": "dp-sgd", "target_epsilon": 3.0}
        >>> found = plan(Scenario(rounds=2, data={"train": 200, "clients": 2}, defenses=[dp]))
        >>> 2.9 < found.epsilon <= 3.0
        True
    """
    if scenario.engine.deployed:
        raise BadInput(
            "the clients of a deployment have images of their own, whose numbers nobody knows "
            "before they appear: plan with --set engine.name=in-process"
        )
    federated = federated or FederatedData.of(scenario)
    settled = calibrated(scenario, federated.sizes)
    sizes = PublicSizes(federated.sizes, prod(federated.data.shape))
    ledger = Ledger(
        _histories(settled, sizes, buffers=_shares_buffers(settled, federated)),
        accountant=settled.privacy.accountant,
        delta=settled.privacy.delta,
        labels_public=settled.privacy.labels_public,
    )
    return Plan(settled, ledger, federated, solved_noise(scenario, settled))


def noise_table(
    scenario: Scenario,
    noise: Iterable[float] | None = None,
    federated: FederatedData | None = None,
) -> list[tuple[float, Plan]]:
    """The plan at each noise multiplier, in place of that of all defenses with noise.

    Args:
        scenario: The scenario.
        noise: Noise multipliers, above 0; those of ``noise_around`` by default.
        federated: Its images, if they are loaded already.

    Raises:
        BadInput: If no defense of the scenario adds noise.
    """
    if not adds_noise(scenario):
        raise BadInput("no defense of the scenario adds noise, so there is no noise to choose")
    federated = federated or FederatedData.of(scenario)
    if noise is None:
        noise = noise_around(scenario, calibrated(scenario, federated.sizes))
    return [(each, plan(_with_noise(scenario, each), federated)) for each in noise]


def noise_around(before: Scenario, after: Scenario) -> list[float]:
    """Noise multipliers among which every target epsilon lies.

    They are those of ``NOISE`` and the solved ones, with halves and doubles on both sides of these.

    Args:
        before: The scenario with its targets.
        after: The same, with the noise that was solved for.
    """
    solved = [max(groups) for groups in _solved(before, after).values()]
    noise = sorted({*NOISE, *solved})
    while solved and noise[0] >= min(solved):
        noise.insert(0, noise[0] / 2)
    while solved and noise[-1] <= max(solved):
        noise.append(noise[-1] * 2)
    return noise


def adds_noise(scenario: Scenario) -> bool:
    """Whether any defense of a scenario has a noise multiplier."""
    return any(map(_is_noisy, scenario.defenses))


def with_target(scenario: Scenario, epsilon: float) -> Scenario:
    """The scenario with a target epsilon for every defense that can reach one.

    Args:
        scenario: The scenario.
        epsilon: Epsilon of all rounds together, above 0.

    Raises:
        BadInput: If none of its defenses takes a target.
    """
    names = {entry.name for entry in scenario.defenses if "target_epsilon" in _fields(entry)}
    if not names:
        raise BadInput(
            "no defense of the scenario takes a target epsilon: add one, such as --defenses dp-sgd"
        )
    return scenario.with_settings({f"defenses.{name}.target_epsilon": epsilon for name in names})


def solved_noise(before: Scenario, after: Scenario) -> tuple[str, ...]:
    """What was solved for: a line with the noise of each defense that has a target epsilon."""
    lines = []
    for name, groups in _solved(before, after).items():
        most = max(groups)
        line = f"{name}: noise_multiplier = {most:g} "
        if len(groups) == 1:
            line += f"for clients {spell(groups[most])}"
        else:
            line += (
                "is enough for every client; those that take part less often or have more images "
                f"run with less, down to {min(groups):g}"
            )
        lines.append(line)
    return tuple(lines)


def _solved(before: Scenario, after: Scenario) -> dict[str, dict[float, set[int]]]:
    """Clients that take part, by the noise that was solved for, by defense."""
    found: dict[str, dict[float, set[int]]] = {}
    targets = {entry.name for entry in before.defenses if entry.target is not None}
    sampled = {client for _, client in _participations(after)} if targets else set()
    for entry in after.defenses:
        clients = resolve_clients(entry.clients, after.data.clients) & sampled
        if entry.name in targets and clients:
            groups = found.setdefault(entry.name, {})
            groups.setdefault(entry.model_dump()["noise_multiplier"], set()).update(clients)
    return found


def measure(found: Plan) -> Cost:
    """Estimate time and memory of a run by trying one client of each kind, and one evaluation.

    Args:
        found: The plan of the scenario.
    """
    scenario, federated = found.scenario, found.federated
    prepare(scenario.engine.threads)
    state = federated.state
    kinds: Counter[str] = Counter()
    firsts: dict[str, tuple[int, int]] = {}
    for number, client in _participations(scenario):
        task = task_for(scenario, round=number, client=client)
        kind = f"{task.role} {task.defenses} {federated.sizes[client]}"
        kinds[kind] += 1
        firsts.setdefault(kind, (number, client))
    total = 0.0
    for kind, (number, client) in firsts.items():
        task = task_for(scenario, round=number, client=client)
        for _ in range(2):  # the first time imports and allocates
            started = time.perf_counter()
            run_client_round(task, federated, state, ())
            seconds = time.perf_counter() - started
        total += seconds * kinds[kind]
    started = time.perf_counter()
    federated.load(state)
    data = federated.data
    evaluate(federated.model, data.test_images, data.test_labels, federated.network_input)
    total += (time.perf_counter() - started) * (scenario.rounds + 1)
    workers = workers_of(scenario, federated.device)
    processes = workers.count
    workers.close()  # those of Ray are connected to a cluster
    attacked = sum(
        bool(scenario.reconstructions_on(round=number, client=client))
        for number, client in _participations(scenario)
    )
    return Cost(total / processes, processes, psutil.Process().memory_info().rss, attacked)


def _participations(scenario: Scenario) -> Iterable[tuple[int, int]]:
    """All rounds with the clients that are sampled in them."""
    for number in range(1, scenario.rounds + 1):
        for client in sample_cohort(scenario, number):
            yield number, client


def _histories(scenario: Scenario, sizes: PublicSizes, *, buffers: bool) -> Mapping[int, History]:
    """The privacy history of every client that takes part, at the end of the scenario."""
    found: dict[int, History] = {}
    for number, client in _participations(scenario):
        task, before = task_for(scenario, round=number, client=client), found.get(client, ())
        found[client] = (*before, *expected_cost(task, before, sizes=sizes, buffers=buffers))
    return found


def _shares_buffers(scenario: Scenario, federated: FederatedData) -> bool:
    """Whether clients send BatchNorm statistics, which no mechanism protects."""
    buffers = (each for _, each in federated.model.named_buffers())
    return scenario.training.share_buffers and any(map(torch.is_floating_point, buffers))


def _with_noise(scenario: Scenario, noise: float) -> Scenario:
    changed = [
        entry.model_dump(exclude={"target_epsilon"}) | {"noise_multiplier": noise}
        if _is_noisy(entry)
        else entry.model_dump()
        for entry in scenario.defenses
    ]
    return scenario.changed(defenses=changed)


def _is_noisy(entry: Defense) -> bool:
    return "noise_multiplier" in _fields(entry)


def _fields(entry: Defense) -> Iterable[str]:
    return type(entry).model_fields
