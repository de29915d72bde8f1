"""Tables of the privacy ledger: one line per round, and one line per client."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from fedlab.privacy.accounts import Account, account_of
from fedlab.privacy.ceiling import NO_BOUND
from fedlab.privacy.ledger import Ledger, LedgerRow, shared
from fedlab.report.tables.ceilings import POOLS, percent
from fedlab.report.tables.naming import named, spelled
from fedlab.report.tables.numbers import number
from fedlab.report.tables.table import Column, ReportTable
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import NO_PROTECTION

_PARAMETERS = {
    "C": ("clipping_norm", "g", "clipping norm"),
    "z": ("noise_multiplier", ".3g", "noise multiplier, the noise over the clipping norm"),
    "q": ("sample_rate", ".3g", "sample rate, the probability that an image joins a batch"),
}
"""Letter of a parameter, with its column of ``LedgerRow``, its format and its name."""

_STATEMENTS = {
    "formal": "the ε is proved",
    "claimed": "the author of the defense states the ε",
    "approximate": "the ε is an estimate and may be too small",
    "vacuous": "the ε is too large to exclude anything",
    "none": "no ε holds",
    "open": "nothing protects the client",
}
"""What the statements of the ledger mean."""

UNBOUNDED = "there is no total ε, as nobody ran a mechanism that has one"


def ledger_table(ledger: Ledger) -> ReportTable:
    """Mechanisms and epsilons by round; clients with equal values share a line."""
    columns = [
        Column("round", "right"),
        Column("clients", "right"),
        *map(Column, ("mechanism", "protects", "parameters")),
        *(Column(header, "right") for header in ("ε\nround", "ε prot.\nrounds", "ε\ntotal")),
        Column("statement"),
    ]
    lines: dict[tuple[str, ...], list[int]] = defaultdict(list)
    entries = list(ledger.rows())
    for row in entries:
        epsilons = (row.epsilon_round, row.epsilon_protected, row.epsilon_total)
        unit = f"one {row.unit}" if row.adjacency else "-"
        values = (named(row.mechanism), unit, _parameters(row), *map(number, epsilons))
        lines[str(row.round), *values, row.statement].append(row.client)
    rows = [(round, spelled(clients), *rest) for (round, *rest), clients in lines.items()]
    note = "\n".join([epsilon_note(ledger), *_legend(entries)])
    return ReportTable("Privacy, round by round", columns, rows, note)


def clients_table(ledger: Ledger, scenario: Scenario | None = None) -> ReportTable:
    """Mechanisms and total epsilons by client; clients with equal values share a line.

    Args:
        ledger: The accounts of all clients.
        scenario: The experiment, for a column of roles; no such column without it.
    """
    lines: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for client, values in _client_values(ledger):
        roles = (_roles(scenario, ledger, client),) if scenario else ()
        lines[*roles, *values].append(client)
    columns = [
        Column("clients", "right"),
        *([Column("role")] if scenario else []),
        *map(Column, ("mechanisms, by round", "protects")),
        *(Column(header, "right") for header in ("ε protected", "ε total")),
        *(Column(f"found of {pool},\nat most", "right") for pool in POOLS),
    ]
    note = "No client has taken part yet."
    if lines:
        note = f"{epsilon_note(ledger)}; {_ceiling_note(ledger)}"
    if scenario and scenario.server.central_dp:
        note += f"\n{NO_PROTECTION}"
    rows = [(spelled(clients), *values) for values, clients in lines.items()]
    return ReportTable("Privacy, client by client", columns, rows, note)


def epsilon_note(ledger: Ledger) -> str:
    """Delta, accountant, unit and adjacency of the epsilons in a table."""
    used = [account for account in ledger.accounts if ledger.protects(account)]
    noisy = any(account.composition == "gaussian" for account in used)
    parts = [f"delta = {ledger.delta:g}, {ledger.accountant.upper()} accountant"] if noisy else []
    units = "; ".join(f"one {a.unit} ({a.adjacency}) by {a.mechanism}" for a in used)
    parts.append(f"protected: {units}" if used else UNBOUNDED)
    parts += [
        f"{account.mechanism} protects one {account.unit} ({account.adjacency}) a round"
        for account in accounts_without_total(ledger)
    ]
    parts += _without_bound(ledger)
    if ledger.repeated:
        parts.append(
            f"run again after an interruption: round {spelled(ledger.repeated)}; what clients had "
            "sent before it counts as well"
        )
    return "; ".join(parts)


def _ceiling_note(ledger: Ledger) -> str:
    if ledger.accountant == "gdp":
        return NO_BOUND
    pools = " or ".join(map(str, POOLS))
    return (
        f"at most: how often any attack can find the true image among {pools} equally likely ones, "
        "from all that the client sent; 100 % certifies nothing"
    )


def _without_bound(ledger: Ledger) -> list[str]:
    """Why epsilons do not hold or when they do, with the clients and rounds that it applies to."""
    rounds: dict[tuple[str, str, int], list[int]] = defaultdict(list)
    for client, history in sorted(ledger.histories.items()):
        for entry in history:
            if entry.void:
                rounds["no bound for", entry.void, client].append(entry.round)
            elif entry.shared_by:
                rounds["a bound for", shared(entry.shared_by), client].append(entry.round)
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (what, reason, client), each in rounds.items():
        found[what, reason].append(f"client {client} in round {spelled(set(each))}")
    return [f"{what} {', '.join(where)}: {reason}" for (what, reason), where in found.items()]


def accounts_without_total(ledger: Ledger) -> list[Account]:
    """Accounts whose epsilons hold for single rounds but enter no total."""
    entries = (entry for history in ledger.histories.values() for entry in history)
    found = dict.fromkeys(filter(None, map(account_of, entries)))
    return [account for account in found if account not in ledger.accounts]


def _client_values(ledger: Ledger) -> Iterable[tuple[int, tuple[str, ...]]]:
    """Values of each client in every account that protected it, and of unprotected clients."""
    protected = set()
    for account in ledger.accounts:
        for client in sorted(ledger.histories):
            if ledger.protected(client, account) is not None:
                protected.add(client)
                yield client, _values(ledger, client, account, f"one {account.unit}")
    for client in sorted(set(ledger.histories) - protected):
        yield client, _values(ledger, client, ledger.accounts[0], "-")


def _values(ledger: Ledger, client: int, account: Account, protects: str) -> tuple[str, ...]:
    rounds: dict[str, set[int]] = defaultdict(set)
    for entry in ledger.histories[client]:
        rounds[entry.mechanism].add(entry.round)
    return (
        "; ".join(f"{named(name)} {spelled(each)}" for name, each in rounds.items()) or "-",
        protects,
        number(ledger.protected(client, account)),
        number(ledger.total(client, account)),
        *(percent(ledger.ceiling(client, pool)) for pool in POOLS),
    )


def _legend(rows: Sequence[LedgerRow]) -> Iterator[str]:
    """What the letters and the statements in some rows mean."""
    letters = [
        f"{letter}: {name}"
        for letter, (column, _, name) in _PARAMETERS.items()
        if any(getattr(row, column) is not None for row in rows)
    ]
    if letters:
        yield "; ".join(letters)
    said = [word for word in _STATEMENTS if any(row.statement == word for row in rows)]
    if said:
        yield "; ".join(f"{word}: {_STATEMENTS[word]}" for word in said)


def _parameters(row: LedgerRow) -> str:
    parts = [
        f"{letter} {value:{form}}"
        for letter, (column, form, _) in _PARAMETERS.items()
        if (value := getattr(row, column)) is not None
    ]
    if row.steps is not None:
        # A release without Gaussian noise states how many records it holds.
        parts.append(f"{'steps' if row.accountant else 'records'} {row.steps}")
    return ", ".join(parts + ["batch of fixed size"] * (row.sampling == "fixed"))


def _roles(scenario: Scenario, ledger: Ledger, client: int) -> str:
    rounds = (entry.round for entry in ledger.histories[client])
    return ", ".join(dict.fromkeys(scenario.role(round=r, client=client).role for r in rounds))
