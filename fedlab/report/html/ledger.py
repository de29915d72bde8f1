"""A ledger in a notebook: a line for each client, or for several whose accounts are alike."""

from collections import defaultdict
from typing import TYPE_CHECKING

from fedlab.core.schedule import spell
from fedlab.report.html.tables import html_table
from fedlab.report.tables.ledger import lines_of, neighbours

if TYPE_CHECKING:
    from fedlab.privacy.ledger import Ledger


def ledger_html(ledger: "Ledger") -> str:
    """Mechanisms by round, and what they cost, in each account in use."""
    lines: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for client, cells in lines_of(ledger):
        lines[cells].append(client)
    return str(
        html_table(
            ["clients", "mechanisms, by round", "hides", "ε protected", "ε total"],
            [[spell(clients), *cells] for cells, clients in lines.items()],
            caption="Privacy, client by client",
            note=neighbours(ledger) if lines else "No client has taken part yet.",
            right=(3, 4),
        )
    )
