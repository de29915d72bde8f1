"""The privacy ledger as text tables: one line per round, and one per client."""

from collections import defaultdict
from itertools import groupby

from rich import box
from rich.table import Table

from fedlab.core.schedule import spell
from fedlab.privacy.accounts import IMAGE, Account
from fedlab.privacy.ledger import Ledger, LedgerRow
from fedlab.report.tables.naming import named
from fedlab.report.tables.numbers import number
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import NO_PROTECTION

UNBOUNDED = "there is no total ε, as nobody ran a mechanism that has one"


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
    lines = [
        (client, (_roles(scenario, ledger, client), *cells)) for client, cells in lines_of(ledger)
    ]
    for text, alike in groupby(lines, lambda line: line[1]):
        table.add_row(spell(client for client, _ in alike), *text)
    return table


def neighbours(ledger: Ledger) -> str:
    """What its epsilons are about."""
    hidden = [
        f"one {account.unit} ({account.adjacency}) by {account.mechanism}"
        for account in ledger.accounts
        if ledger.protects(account)
    ]
    parts = [f"hidden: {'; '.join(hidden)}" if hidden else UNBOUNDED]
    if ledger.protects(IMAGE) and IMAGE not in ledger.accounts:
        parts.append(f"{IMAGE.mechanism} hides one {IMAGE.unit} ({IMAGE.adjacency}) a round")
    if hidden:
        parts.insert(0, f"delta = {ledger.delta:g}, {ledger.accountant.upper()} accountant")
    if ledger.repeated:
        parts.append(
            f"run again after an interruption: round {spell(ledger.repeated)}; what clients had "
            "sent by then counts as well"
        )
    return "; ".join(parts)


def lines_of(ledger: Ledger) -> list[tuple[int, tuple[str, ...]]]:
    """Client by client, in each account in use that protected it in any round.

    Returns:
        Of each the client, and what it ran by round, what that hides, and epsilon of its protected
        and of all its rounds.
    """
    lines = []
    for account in ledger.accounts:
        for client in sorted(ledger.histories):
            if ledger.protected(client, account) is not None:
                lines.append((client, _cells(ledger, client, account, f"one {account.unit}")))
    told = {client for client, _ in lines}
    bare = sorted(set(ledger.histories) - told)
    return lines + [(client, _cells(ledger, client, ledger.accounts[0], "-")) for client in bare]


def _cells(ledger: Ledger, client: int, account: Account, hides: str) -> tuple[str, ...]:
    history = ledger.histories[client]
    mechanisms = [
        f"{named(name)} " + spell({e.round for e in history if e.mechanism == name})
        for name in dict.fromkeys(e.mechanism for e in history)
    ]
    return (
        "; ".join(mechanisms) or "-",
        hides,
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


def _roles(scenario: Scenario, ledger: Ledger, client: int) -> str:
    rounds = (entry.round for entry in ledger.histories[client])
    return ", ".join(dict.fromkeys(scenario.role(round=r, client=client).role for r in rounds))
