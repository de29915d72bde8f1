"""A ledger in a notebook: a line for each client, or for several whose accounts are alike."""

from collections import defaultdict
from typing import TYPE_CHECKING

from fedlab.privacy.accounts import Account
from fedlab.report.html_tables import html_table
from fedlab.report.ledger_tables import neighbours
from fedlab.report.naming import named
from fedlab.report.numbers import number
from fedlab.schedule import spell

if TYPE_CHECKING:
    from fedlab.privacy.ledger import Ledger


def ledger_html(ledger: "Ledger") -> str:
    """Mechanisms by round, and what they cost, in each account in use."""
    lines: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for account in ledger.accounts:
        for client in sorted(ledger.histories):
            lines[_line(ledger, client, account)].append(client)
    return str(
        html_table(
            ["clients", "mechanisms, by round", "hides", "ε protected", "ε total"],
            [[spell(clients), *cells] for cells, clients in lines.items()],
            caption="Privacy, client by client",
            note=neighbours(ledger) if lines else "No client has taken part yet.",
            right=(3, 4),
        )
    )


def _line(ledger: "Ledger", client: int, account: Account) -> tuple[str, ...]:
    history = ledger.histories[client]
    mechanisms = [
        f"{named(name)} " + spell({entry.round for entry in history if entry.mechanism == name})
        for name in dict.fromkeys(entry.mechanism for entry in history)
    ]
    return (
        "; ".join(mechanisms) or "-",
        f"one {account.unit}",
        number(ledger.protected(client, account)),
        number(ledger.total(client, account)),
    )
