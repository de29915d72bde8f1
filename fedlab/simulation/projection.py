"""What the scheduled rounds of DP-SGD will cost every client, before any of them runs.

Only public facts go in: the schedule, who is sampled, the sizes of the shards.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fedlab.core.errors import BadInput
from fedlab.core.schedule import resolve_clients, spell
from fedlab.defenses.dp_sgd import DPSGD
from fedlab.privacy.accounts import EXAMPLE, as_step
from fedlab.privacy.calibration import noise_multiplier_for
from fedlab.privacy.release import History, PrivacyRelease
from fedlab.protocol.planning import sample_cohort
from fedlab.protocol.workload import workload
from fedlab.scenario.scenario import Scenario


@dataclass(frozen=True)
class Projection:
    """Where the privacy account of one client stands, and where the schedule takes it.

    Attributes:
        spent: Epsilon of its rounds under DP-SGD so far; 0 before the first.
        projected: Epsilon after all rounds that are scheduled.
        rounds: Number of its rounds under DP-SGD that are still to come.
    """

    spent: float
    projected: float
    rounds: int

    def as_json(self) -> float | str:
        """The projected epsilon for JSON, which has no infinity."""
        return self.projected if math.isfinite(self.projected) else "inf"

    def __str__(self) -> str:
        return f"{self.spent:.3f} now, {self.projected:.3f} after {self.rounds} more rounds"


def projections(
    scenario: Scenario,
    sizes: Mapping[int, int],
    histories: Mapping[int, History] | None = None,
    *,
    after: int = 0,
) -> dict[int, Projection]:
    """The DP-SGD accounts of clients, of those that have one or are scheduled for one.

    A budget may stop a client before it gets to the epsilon that is projected.

    Args:
        scenario: The experiment, with all noise multipliers given.
        sizes: Images of the clients that are asked about.
        histories: What was spent.
        after: Number of rounds that are over.

    Raises:
        BadInput: If the accountant cannot count what is scheduled.
    """
    counted = scenario.privacy
    found = {}
    for client, planned in _scheduled(scenario, sizes, after).items():
        history = (histories or {}).get(client, ())
        coming = tuple(entry for _, entry in planned)
        try:
            spent, projected = (
                EXAMPLE.epsilon(each, accountant=counted.accountant, delta=counted.delta)
                for each in (history, (*history, *coming))
            )
        except ValueError as error:
            raise BadInput(f"client {client}: {error}") from error
        if projected is not None:
            found[client] = Projection(spent or 0.0, projected, len(coming))
    return found


def calibrated(scenario: Scenario, sizes: Mapping[int, int]) -> Scenario:
    """The scenario with a noise multiplier in the place of every target epsilon.

    What is found depends on the client's shard, so an entry with a target becomes one for each
    group of clients with the same noise. Rounds under entries without a target count as well.

    Args:
        scenario: As the user wrote it.
        sizes: Images of every client.

    Raises:
        BadInput: If a client has two targets, or no noise reaches its target.
    """
    if not any(_has_target(entry) for entry in scenario.defenses):
        return scenario
    noise = {
        client: found
        for client, planned in _scheduled(scenario, sizes).items()
        if (found := _noise(client, planned, scenario)) is not None
    }
    entries: list[dict[str, object]] = []
    for entry in scenario.defenses:
        if not (isinstance(entry, DPSGD) and _has_target(entry)):
            entries.append(entry.model_dump())
            continue
        groups: dict[float, list[int]] = {}
        for client in sorted(resolve_clients(entry.clients, scenario.data.clients)):
            # Whoever is never sampled keeps what was written, which nobody will see.
            groups.setdefault(noise.get(client, entry.noise_multiplier), []).append(client)
        entries += [
            entry.model_dump()
            | {"noise_multiplier": found, "target_epsilon": None, "clients": spell(members)}
            for found, members in groups.items()
        ]
    return scenario.changed(defenses=entries)


def _has_target(entry: object) -> bool:
    return isinstance(entry, DPSGD) and entry.target_epsilon is not None


def _scheduled(
    scenario: Scenario, sizes: Mapping[int, int], after: int = 0
) -> dict[int, list[tuple[DPSGD, PrivacyRelease]]]:
    """Every client's DP-SGD rounds that are still to come, with their cost."""
    planned: dict[int, list[tuple[DPSGD, PrivacyRelease]]] = {client: [] for client in sizes}
    for round in range(after + 1, scenario.rounds + 1):
        for client in planned.keys() & sample_cohort(scenario, round):
            for entry in scenario.defenses_on(round=round, client=client):
                if isinstance(entry, DPSGD):
                    planned[client].append((entry, _cost(entry, scenario, round, client, sizes)))
    return planned


def _cost(
    entry: DPSGD, scenario: Scenario, round: int, client: int, sizes: Mapping[int, int]
) -> PrivacyRelease:
    images = sizes[client]
    todo = workload(scenario.role(round=round, client=client), scenario.training, images)
    return entry.planned_release(
        round=round,
        participation=0,  # which no epsilon of DP-SGD depends on
        images=images,
        batch_size=todo.batch_size,
        steps=todo.steps,
        poisson=todo.poisson,
    )


def _noise(
    client: int, planned: list[tuple[DPSGD, PrivacyRelease]], scenario: Scenario
) -> float | None:
    """The noise of a client's rounds with a target; ``None`` if it has none."""
    targets = {entry.target_epsilon for entry, _ in planned} - {None}
    if not targets:
        return None
    if len(targets) > 1:
        raise BadInput(
            f"client {client} has dp-sgd with different values of target_epsilon, but all its "
            "protected rounds count together: give them the same"
        )
    (target,) = targets
    open_steps = tuple(
        as_step(replace(cost, noise_multiplier=1.0))
        for entry, cost in planned
        if _has_target(entry)
    )
    fixed = tuple(as_step(cost) for entry, cost in planned if not _has_target(entry))
    try:
        return noise_multiplier_for(
            target or 0.0,
            open_steps,
            fixed=fixed,
            accountant=scenario.privacy.accountant,
            delta=scenario.privacy.delta,
        )
    except ValueError as error:
        raise BadInput(f"target_epsilon of client {client}: {error}") from error
