"""What a task costs its client, and the check of what the client says about it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from fedlab.core.errors import BadInput
from fedlab.core.plugins import PluginFailed
from fedlab.defenses import Defense
from fedlab.privacy.release import OPEN, History, PrivacyRelease, next_participation
from fedlab.protocol.guarantees import opens, void_release
from fedlab.protocol.task import ClientTask
from fedlab.protocol.training_task import adjust_task
from fedlab.protocol.workload import workload

BY_SIZE = frozenset({"sample_rate", "steps", "epsilon"})
"""Fields of an entry that depend on the client's number of images, or on their size."""

CHOSEN = frozenset({"release", "next_clipping_norm"})
"""Fields that no task determines: a random name, and a norm that follows the client's images."""


@dataclass(frozen=True)
class PublicSizes:
    """Numbers about the clients' images that everybody knows, the server included.

    Attributes:
        images: Number of images of each client, by partition id.
        values: Number of values in an image: channels times height times width.
    """

    images: Mapping[int, int]
    values: int


def expected_cost(
    task: ClientTask, before: History, *, sizes: PublicSizes | None, buffers: bool
) -> History:
    """Return what a participation will cost, as far as the server knows.

    With a foreign defense, which may charge more than it plans, the participation counts as
    unprotected. The records of a frozen set count as another set than any before.

    Args:
        task: Task of the client in the round.
        before: Privacy history of the client before the round.
        sizes: Public sizes.
        buffers: True if the client is asked for BatchNorm statistics, which no mechanism protects.
    """
    participation = next_participation(before)
    opened = PrivacyRelease(task.round, participation, OPEN)
    try:
        task = adjust_task(task)
        expected, foreign = _expected(task, participation, before, sizes)
    except (BadInput, PluginFailed, ValueError):  # a plug-in cannot say what it costs
        return (opened,)
    if buffers or opens(task) or foreign or not expected:
        return (opened,)
    name = f"round {task.round}, participation {participation}"
    return tuple(replace(cost, release=name) if cost.release else cost for cost in expected)


def declared_problem(
    task: ClientTask,
    entries: History,
    before: History,
    *,
    sizes: PublicSizes | None,
    buffers: bool,
) -> str | None:
    """Return in what the declared cost of a participation differs from that of its task.

    A client of a built-in defense must state exactly the cost that follows from its task. A foreign
    defense may charge more than its ``planned_release`` says, and anything if that says nothing;
    its entries must be of its own mechanism and account.

    Args:
        task: Task of the client in the round.
        entries: Entries that the client declares for one participation, at least one.
        before: Privacy history of the client before the participation.
        sizes: Public sizes; without them, what depends on them is not checked.
        buffers: True if the client sends BatchNorm statistics, which no mechanism protects.

    Returns:
        The difference as part of a sentence; ``None`` if there is none.
    """
    task = adjust_task(task)
    opened = PrivacyRelease(task.round, entries[0].participation, OPEN)
    if buffers or opens(task):
        return _difference(entries, [opened])
    expected, foreign = _expected(task, opened.participation, before, sizes)
    rest: Sequence[PrivacyRelease] = entries
    for defense, cost in foreign:
        own = [entry for entry in rest if entry.mechanism == defense.name]
        rest = [entry for entry in rest if entry.mechanism != defense.name]
        if problem := _foreign_problem(defense, own, cost, task):
            return problem
    if foreign:  # an inspection of theirs, which only they know of, opens the round
        rest = [entry for entry in rest if entry.mechanism != OPEN]
    elif not expected:
        expected = [opened]
    return _difference(rest, expected, sizes) or _reused(entries, before)


def _expected(
    task: ClientTask, participation: int, before: History, sizes: PublicSizes | None
) -> tuple[list[PrivacyRelease], list[tuple[Defense, PrivacyRelease | None]]]:
    """The costs of built-in defenses, and foreign defenses with the least that they may cost."""
    images = task.training.batch_size if sizes is None else sizes.images[task.client]
    work = workload(task.role, task.training, images)
    expected, foreign = [], []
    for defense in task.defenses:
        cost = defense.expected_release(
            work,
            round=task.round,
            participation=participation,
            images=images,
            values=1 if sizes is None else sizes.values,
            history=before,
        )
        work = defense.reworked(work)
        if not type(defense).__module__.startswith("fedlab."):
            foreign.append((defense, cost))
        elif cost is not None:
            expected.append(void_release(cost, task))
    return expected, foreign


def _difference(
    declared: Sequence[PrivacyRelease],
    expected: Sequence[PrivacyRelease],
    sizes: PublicSizes | None = None,
) -> str | None:
    """The first difference between entries; without sizes, what depends on them may differ."""
    names = [[entry.mechanism for entry in entries] for entries in (declared, expected)]
    if names[0] != names[1]:
        said, asked = (" and ".join(each) or "nothing" for each in names)
        return f"it declares {said} where its task is {asked}"
    for entry, cost in zip(declared, expected, strict=True):
        told, asked_for = asdict(entry), asdict(cost)
        for field, value in asked_for.items():
            same = told[field] == value
            if field in CHOSEN:  # any value, if there is to be one
                same = (told[field] is None) is (value is None)
            if not same and not (sizes is None and field in BY_SIZE):
                return f"it declares {field} = {told[field]} where its task is {value}"
    return None


def _foreign_problem(
    defense: Defense,
    own: Sequence[PrivacyRelease],
    least: PrivacyRelease | None,
    task: ClientTask,
) -> str | None:
    """Why entries of a foreign defense are not of its account, or too cheap."""
    account = defense.account
    if account is None:
        return f"it declares {defense.name}, which claims no epsilon" if own else None
    if not own:
        return f"it declares nothing for {defense.name}"
    for entry in own:
        noisy = entry.noise_multiplier is not None
        stated = (
            account.unit,
            account.adjacency,
            account.sensitivity if noisy else None,
            account.needs_public_labels or None,
            account.composition == "gaussian",
        )
        labels, told = entry.needs_public_labels, (entry.unit, entry.adjacency, entry.sensitivity)
        holds = void_release(replace(entry, void=None), task) == entry
        if (*told, labels, noisy) != stated or not holds:
            return f"it declares {defense.name} by another account than that of the defense"
    if least is not None and all(_cheaper(entry, least) for entry in own):
        return f"it declares a lower cost of {defense.name} than the defense plans"
    return None


def _cheaper(entry: PrivacyRelease, least: PrivacyRelease) -> bool:
    """True if an entry states less than a planned cost in any number that matters."""
    none = math.inf  # no bound, which is the highest cost
    return (
        (entry.noise_multiplier or 0.0) > (least.noise_multiplier or 0.0)
        or (entry.sample_rate or 1.0) < (least.sample_rate or 0.0)
        or (entry.steps or 0) < (least.steps or 0)
        or (none if entry.epsilon is None else entry.epsilon)
        < (none if least.epsilon is None else least.epsilon)
    )


def _reused(entries: History, before: History) -> str | None:
    """Why an entry cannot be of the frozen set that it names, whose cost would not count again."""
    for entry in (each for each in entries if each.release is not None):
        for known in before:
            if entry.release == known.release:
                one, other = (replace(e, round=1, participation=0) for e in (entry, known))
                if one != other:
                    return "it gives a set of records the name of an earlier set of another cost"
    return None
