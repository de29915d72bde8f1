"""Sentences and numbers on what no attack on a client's releases can exceed."""

from collections import defaultdict

from fedlab.privacy.ledger import Ledger
from fedlab.report.tables.naming import spelled

POOLS = (10, 100)
"""Numbers of equally likely images among which the true one is sought."""


def percent(share: float | None) -> str:
    """A share in per cent with three digits; a dash where there is none.

    Example:
        >>> percent(0.0924), percent(None)
        ('9.24 %', '-')
    """
    return "-" if share is None else f"{100 * share:.3g} %"


def ceiling_sentences(ledger: Ledger) -> list[str]:
    """One sentence for each group of clients with equal ceilings; none without any ceiling."""
    groups: dict[tuple[float | None, ...], list[int]] = defaultdict(list)
    for client, history in sorted(ledger.histories.items()):
        if history:
            groups[tuple(ledger.ceiling(client, pool) for pool in POOLS)].append(client)
    found, nothing = [], []
    for (ten, hundred), clients in groups.items():
        if ten is None or hundred is None:
            return []
        who = f"client{'s' * (len(clients) > 1)} {spelled(clients)}"
        if hundred >= 1:
            nothing.append(who)
            continue
        found.append(
            f"No attack can find an image of {who} among 10 equally likely images more often than "
            f"in {percent(ten)} of cases, among 100 than in {percent(hundred)}, whatever else it "
            "knows."
        )
    if found and nothing:
        found.append(f"For {' and '.join(nothing)} nothing is certified.")
    return found
