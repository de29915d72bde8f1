"""Tables of a plan: what every client will have spent, and what other noise would cost."""

from collections import defaultdict
from collections.abc import Iterable

from fedlab.privacy.accounts import account_of
from fedlab.privacy.release import History
from fedlab.report.tables.ceilings import POOLS, percent
from fedlab.report.tables.ledger import epsilon_note
from fedlab.report.tables.naming import named, spelled
from fedlab.report.tables.numbers import number
from fedlab.report.tables.table import Column, ReportTable
from fedlab.simulation.budget import Plan

_FOUND = [Column(f"found of {pool},\nat most", "right") for pool in POOLS]


def plan_table(found: Plan) -> ReportTable:
    """One line for each mechanism of each group of clients with equal values."""
    lines: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for client, history in sorted(found.ledger.histories.items()):
        for mechanism in dict.fromkeys(entry.mechanism for entry in history):
            lines[_values(found, client, history, mechanism)].append(client)
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
    rows = [(spelled(clients), *values) for values, clients in lines.items()]
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


def _values(found: Plan, client: int, history: History, mechanism: str) -> tuple[str, ...]:
    own = [entry for entry in history if entry.mechanism == mechanism]
    account = account_of(own[0]) or found.ledger.accounts[0]
    steps = sum(entry.steps or 0 for entry in own)
    return (
        named(mechanism),
        str(len({entry.round for entry in own})),
        _one_or_range(entry.noise_multiplier for entry in own),
        _one_or_range(entry.sample_rate for entry in own),
        str(steps) if steps else "-",
        number(found.ledger.protected(client, account)),
        number(found.ledger.total(client, account)),
        *(percent(found.ledger.ceiling(client, pool)) for pool in POOLS),
    )


def _one_or_range(values: Iterable[float | None]) -> str:
    known = sorted({value for value in values if value is not None})
    if not known:
        return "-"
    low, high = f"{known[0]:.4g}", f"{known[-1]:.4g}"
    return low if low == high else f"{low} to {high}"
