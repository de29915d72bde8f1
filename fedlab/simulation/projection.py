"""The epsilon to which the schedule takes every client, computed before the rounds run.

Only public facts are used: the schedule, the sampled cohorts, and the number of images of each
client.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fedlab.core.errors import BadInput
from fedlab.core.schedule import resolve_clients, spell
from fedlab.defenses import Defense
from fedlab.privacy.accounts import EXAMPLE, account_of, as_step
from fedlab.privacy.calibration import noise_multiplier_for
from fedlab.privacy.release import History, PrivacyRelease
from fedlab.protocol.guarantees import void_release
from fedlab.protocol.planning import sample_cohort, task_for
from fedlab.protocol.workload import workload
from fedlab.scenario.scenario import Scenario

Planned = Sequence[tuple[Defense, PrivacyRelease]]
"""Scheduled rounds of one client: the defense, and its privacy cost in that round."""


@dataclass(frozen=True)
class Projection:
    """The privacy account of one client now, and after all scheduled rounds.

    Attributes:
        spent: Epsilon of the client's rounds under the defense so far; 0 before the first.
        projected: Epsilon after all scheduled rounds.
        rounds: Number of the client's rounds under the defense that are still to come.
        mechanism: Name of the defense.
        void: Number of these rounds in which its epsilon does not hold, because of colluding
            clients or a poison. ``projected`` leaves them out; it is infinite if none is left.
    """

    spent: float
    projected: float
    rounds: int
    mechanism: str = EXAMPLE.mechanism
    void: int = 0

    def as_json(self) -> float | str:
        """The projected epsilon for JSON, which has no infinity."""
        return self.projected if math.isfinite(self.projected) else "inf"

    def __str__(self) -> str:
        text = f"{self.spent:.3f} now, {self.projected:.3f} after {self.rounds} more rounds"
        return text + f"; it does not hold in {self.void} of them" * (self.void > 0)


def projections(
    scenario: Scenario,
    sizes: Mapping[int, int],
    histories: Mapping[int, History] | None = None,
    *,
    after: int = 0,
) -> dict[int, Projection]:
    """Project the privacy accounts of clients whose scheduled costs are known in advance.

    A client without such a round, past or to come, is left out. A budget may stop a client before
    it reaches the projected epsilon.

    Args:
        scenario: The experiment, with all noise multipliers given.
        sizes: Number of images of each client to project, by partition id.
        histories: Privacy history of each client so far.
        after: Number of rounds that are over.

    Raises:
        BadInput: If the accountant cannot count what is scheduled.
    """
    found = {}
    for client, planned in _scheduled(scenario, sizes, after).items():
        try:
            projection = _project(planned, (histories or {}).get(client, ()), scenario)
        except ValueError as error:
            raise BadInput(f"client {client}: {error}") from error
        if projection is not None:
            found[client] = projection
    return found


def _project(planned: Planned, history: History, scenario: Scenario) -> Projection | None:
    """Project the first account in which the client has rounds; DP-SGD's comes first."""
    counted = scenario.privacy
    coming = tuple(release for _, release in planned)
    for account in dict.fromkeys([EXAMPLE, *map(account_of, coming)]):
        if account is None:
            continue
        spent, projected = (
            account.epsilon(each, accountant=counted.accountant, delta=counted.delta)
            for each in (history, (*history, *coming))
        )
        own = [release for release in coming if account_of(release) == account]
        void = sum(release.void is not None for release in own)
        if projected is not None or void:
            reached = math.inf if projected is None else projected
            return Projection(spent or 0.0, reached, len(own), account.mechanism, void)
    return None


def calibrated(scenario: Scenario, sizes: Mapping[int, int]) -> Scenario:
    """Replace every target epsilon by the noise multiplier that reaches it.

    The noise depends on the number of images of a client, so an entry with a target becomes one
    entry for each group of clients with the same noise. Rounds under entries of the same defense
    without a target count as well.

    Args:
        scenario: The scenario as the user wrote it.
        sizes: Number of images of every client, by partition id.

    Raises:
        BadInput: If a client has two targets for one defense, or no noise reaches its target.
    """
    targets = dict.fromkeys(entry.name for entry in scenario.defenses if entry.target is not None)
    if not targets:
        return scenario
    noise: dict[tuple[str, int], float] = {}
    for client, planned in _scheduled(scenario, sizes).items():
        for name in targets:
            own = [(entry, cost) for entry, cost in planned if entry.name == name]
            found = _noise(client, own, scenario)
            if found is not None:
                noise[name, client] = found
    entries: list[dict[str, object]] = []
    for entry in scenario.defenses:
        if entry.target is None:
            entries.append(entry.model_dump())
            continue
        groups: dict[float | None, list[int]] = {}
        for client in sorted(resolve_clients(entry.clients, scenario.data.clients)):
            # A client that is never sampled keeps the noise of the entry, which it never draws.
            groups.setdefault(noise.get((entry.name, client)), []).append(client)
        entries += [
            entry.settled(found).model_dump() | {"clients": spell(members)}
            for found, members in groups.items()
        ]
    return scenario.changed(defenses=entries)


def _scheduled(
    scenario: Scenario, sizes: Mapping[int, int], after: int = 0
) -> dict[int, list[tuple[Defense, PrivacyRelease]]]:
    """The rounds to come of every client under a defense whose cost is known in advance."""
    planned: dict[int, list[tuple[Defense, PrivacyRelease]]] = {client: [] for client in sizes}
    for round in range(after + 1, scenario.rounds + 1):
        for client in planned.keys() & sample_cohort(scenario, round):
            for entry in scenario.defenses_on(round=round, client=client):
                cost = _cost(entry, scenario, round, client, sizes)
                if cost is not None:
                    task = task_for(scenario, round=round, client=client)
                    planned[client].append((entry, void_release(cost, task)))
    return planned


def _cost(
    entry: Defense, scenario: Scenario, round: int, client: int, sizes: Mapping[int, int]
) -> PrivacyRelease | None:
    images = sizes[client]
    todo = workload(scenario.role(round=round, client=client), scenario.training, images)
    return entry.planned_release(
        round=round,
        participation=0,  # no composed epsilon depends on it
        images=images,
        batch_size=todo.batch_size,
        steps=todo.steps,
        poisson=todo.poisson,
    )


def _noise(client: int, planned: Planned, scenario: Scenario) -> float | None:
    """The noise multiplier of a client's rounds with a target; ``None`` if it has none."""
    targets = {entry.target for entry, _ in planned} - {None}
    if not targets:
        return None
    if len(targets) > 1:
        raise BadInput(
            f"client {client} has {planned[0][0].name} with different values of target_epsilon, "
            "but all its protected rounds count together: give them the same"
        )
    (target,) = targets
    account = account_of(planned[0][1]) or EXAMPLE
    solved = tuple(
        as_step(replace(cost, noise_multiplier=1.0), account.sensitivity or 1.0)
        for entry, cost in planned
        if entry.target is not None
    )
    fixed = tuple(
        as_step(cost, account.sensitivity or 1.0) for entry, cost in planned if entry.target is None
    )
    try:
        return noise_multiplier_for(
            target or 0.0,
            solved,
            fixed=fixed,
            accountant=scenario.privacy.accountant,
            delta=scenario.privacy.delta,
        )
    except ValueError as error:
        raise BadInput(f"target_epsilon of client {client}: {error}") from error
