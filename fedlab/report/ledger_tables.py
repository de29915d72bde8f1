"""The privacy ledger as text tables: one line per round, and one per client."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import groupby

from rich import box
from rich.table import Table

from fedlab.privacy.accounts import Account
from fedlab.privacy.ledger import Ledger, LedgerRow
from fedlab.report.naming import named
from fedlab.report.numbers import number
from fedlab.scenario import Scenario
from fedlab.scenario_tables import NO_PROTECTION
from fedlab.schedule import spell

UNBOUNDED = "nobody ran a mechanism that has a total ε, so what was sent has no bound"


def ledger_table(ledger: Ledger) -> Table:
    """Round by round what each client ran, and what it cost; like clients share a line."""
    table = Table(
        title="Privacy, round by round",
        caption=neighbours(ledger),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for header in ("round", "clients"):
        table.add_column(header, justify="right")
    table.add_column("mechanism")
    table.add_column("hides")
    table.add_column("parameters")
    for header in ("ε\nround", "ε prot.\nrounds", "ε\ntotal"):
        table.add_column(header, justify="right")
    table.add_column("statement")

    def cells(row: LedgerRow) -> tuple[str, ...]:
        return (
            str(row.round),
            named(row.mechanism),
            _hides(row),
            _parameters(row),
            number(row.epsilon_round),
            number(row.epsilon_protected),
            number(row.epsilon_total),
            row.statement,
        )

    lines: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for row in ledger.rows():
        lines[cells(row)].add(row.client)
    for (round, *text), clients in lines.items():
        table.add_row(round, spell(clients), *text)
    return table


def clients_table(scenario: Scenario, ledger: Ledger) -> Table:
    """Client by client: its roles, and what all of its rounds cost in each account in use."""
    caption = neighbours(ledger)
    if scenario.server.central_dp:
        caption += f"\n{NO_PROTECTION}"
    table = Table(title="Privacy, client by client", caption=caption, box=box.SIMPLE_HEAD)
    table.add_column("client", justify="right")
    table.add_column("role")
    table.add_column("defenses, by round")
    table.add_column("hides")
    table.add_column("ε protected", justify="right")
    table.add_column("ε total", justify="right")
    for account in ledger.accounts:
        line = _client_line(scenario, ledger, account)
        for clients, text in _alike(sorted(ledger.histories), line):
            table.add_row(spell(clients), *text)
    return table


def neighbours(ledger: Ledger) -> str:
    """What its epsilons are about."""
    hidden = [
        f"one {account.unit} ({account.adjacency}) by {account.mechanism}"
        for account in ledger.accounts
        if ledger.protects(account)
    ]
    if not hidden:
        return UNBOUNDED
    at = f"delta = {ledger.delta:g}, {ledger.accountant.upper()} accountant"
    again = ""
    if ledger.repeated:
        again = (
            f". Run again after an interruption: round {spell(ledger.repeated)}; what clients "
            "had sent by then counts as well"
        )
    return f"{at}; hidden: {'; '.join(hidden)}{again}"


def client_cells(ledger: Ledger, client: int, account: Account) -> tuple[str, ...]:
    """What a client ran by round, what that hides, and ε of its protected and of all its rounds."""
    history = ledger.histories[client]
    mechanisms = [
        f"{named(name)} " + spell({e.round for e in history if e.mechanism == name})
        for name in dict.fromkeys(e.mechanism for e in history)
    ]
    return (
        "; ".join(mechanisms) or "-",
        f"one {account.unit}" if ledger.protects(account) else "-",
        number(ledger.protected(client, account)),
        number(ledger.total(client, account)),
    )


def _hides(row: LedgerRow) -> str:
    return f"one {row.unit}" if row.adjacency else "-"


def _parameters(row: LedgerRow) -> str:
    named = (
        ("C", row.clipping_norm, "{:g}"),
        ("z", row.noise_multiplier, "{:.3g}"),
        ("q", row.sample_rate, "{:.3g}"),
        ("records" if row.mechanism == "dp-instahide" else "steps", row.steps, "{:d}"),
    )
    told = [f"{name} {form.format(value)}" for name, value, form in named if value is not None]
    return ", ".join(told + ["batch of fixed size"] * (row.sampling == "fixed"))


def _client_line(
    scenario: Scenario, ledger: Ledger, account: Account
) -> Callable[[int], tuple[str, ...]]:
    def line(client: int) -> tuple[str, ...]:
        history = ledger.histories[client]
        roles = dict.fromkeys(scenario.role(round=e.round, client=client).role for e in history)
        return (", ".join(roles), *client_cells(ledger, client, account))

    return line


def _alike(
    clients: Sequence[int], line: Callable[[int], tuple[str, ...]]
) -> list[tuple[list[int], tuple[str, ...]]]:
    """Neighbouring clients whose lines are equal, together."""
    return [(list(group), text) for text, group in groupby(clients, line)]
