"""Tables of a plan: what every client will have spent, and what other noise would cost."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from fedlab.privacy.accounts import account_of
from fedlab.privacy.release import History
from fedlab.report.tables.ceilings import POOLS, percent
from fedlab.report.tables.ledger import epsilon_note
from fedlab.report.tables.naming import named, spelled
from fedlab.report.tables.numbers import interval, number
from fedlab.report.tables.table import Column, ReportTable
from fedlab.simulation.budget import Plan

_FOUND = [Column(f"found of {pool},\nat most", "right") for pool in POOLS]


def plan_table(found: Plan) -> ReportTable:
    """One line for each mechanism of each group of clients with equal epsilons.

    Where their rounds, noise or sample rates differ, the line has the range.
    """
    groups: dict[tuple[str, ...], dict[int, History]] = defaultdict(dict)
    for client, history in sorted(found.ledger.histories.items()):
        for mechanism in dict.fromkeys(entry.mechanism for entry in history):
            own = tuple(entry for entry in history if entry.mechanism == mechanism)
            account = account_of(own[0]) or found.ledger.accounts[0]
            epsilons = (f(client, account) for f in (found.ledger.protected, found.ledger.total))
            groups[mechanism, *map(number, epsilons)][client] = own
    columns = [
        Column("clients", "right"),
        Column("mechanism"),
        *(
            Column(h, "right")
            for h in ("rounds", "noise\nmultiplier", "sample\nrate", "steps in\nall")
        ),
        *(Column(header, "right") for header in ("ε protected", "ε total")),
        *_FOUND,
    ]
    rows = [
        (spelled(group), named(mechanism), *_work(group), *epsilons, *_ceilings(found, group))
        for (mechanism, *epsilons), group in groups.items()
    ]
    note = (
        f"If everything scheduled takes place: {epsilon_note(found.ledger)}. At most: how often "
        "any attack can find the true image among equally likely ones, from all that a client sends"
    )
    return ReportTable(f"{found.scenario.name}: what will it cost in privacy?", columns, rows, note)


def noise_against_epsilon(plans: Iterable[tuple[float, Plan]]) -> ReportTable:
    """One line for each noise multiplier: the largest epsilon and ceilings over clients."""
    rows = [
        (f"{noise:g}", number(found.epsilon), *(percent(found.ceiling(pool)) for pool in POOLS))
        for noise, found in plans
    ]
    columns = [Column("noise\nmultiplier", "right"), Column("ε protected", "right"), *_FOUND]
    note = "The largest over all clients, at the end of the scenario"
    return ReportTable("What would other noise cost?", columns, rows, note)


def _work(group: Mapping[int, History]) -> tuple[str, ...]:
    """Rounds, noise multiplier, sample rate and steps of the clients of a group."""
    steps = [sum(entry.steps or 0 for entry in own) for own in group.values()]
    entries = [entry for own in group.values() for entry in own]
    return (
        _one_or_range(len({entry.round for entry in own}) for own in group.values()),
        _one_or_range(entry.noise_multiplier for entry in entries),
        _one_or_range(entry.sample_rate for entry in entries),
        _one_or_range(steps) if any(steps) else "-",
    )


def _ceilings(found: Plan, clients: Iterable[int]) -> list[str]:
    """The largest ceilings of some clients."""
    known = {
        pool: [c for client in clients if (c := found.ledger.ceiling(client, pool)) is not None]
        for pool in POOLS
    }
    return [percent(max(each, default=None)) for each in known.values()]


def _one_or_range(values: Iterable[float | None]) -> str:
    known = sorted(value for value in values if value is not None)
    if not known:
        return "-"
    ends = (known[0], known[-1])
    return interval(*(str(each) if isinstance(each, int) else f"{each:.4g}" for each in ends))
