"""How many attackers a rule stands among so many replies, and what it does in a short round."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from flwr.serverapp.strategy import Bulyan, FedAvg, FedTrimmedAvg, MultiKrum

from fedlab.core.errors import BadInput

log = logging.getLogger(__name__)

FEWEST = 3
"""Replies of which Krum and Bulyan can tell one from the others."""


def refuse_small_cohort(rule: FedAvg, cohort: int) -> None:
    """Refuse a rule whose guarantee needs more replies than a round can have.

    Krum and Multi-Krum need ``n > 2 f + 2`` (Blanchard et al. 2017, proposition 4.2), Bulyan
    ``n >= 4 f + 3`` (El Mhamdi et al. 2018, section 4). A trimmed mean must cut something.

    Args:
        rule: With its options.
        cohort: Clients in a round.

    Raises:
        BadInput: If so.
    """
    name = type(rule).__name__
    if isinstance(rule, Bulyan | MultiKrum):
        malicious = rule.num_malicious_nodes
        if malicious < 0:
            raise BadInput(f"{name}: num_malicious_nodes is a whole number of at least 0")
        if cohort < (needed := _needed(rule, malicious)):
            lower = (
                f"lower num_malicious_nodes to {_bearable(rule, cohort)} or "
                if cohort >= FEWEST
                else ""
            )
            formula = "4 f + 3" if isinstance(rule, Bulyan) else "2 f + 3"
            raise BadInput(
                f"{name} stands {malicious} malicious clients among {needed} or more ({formula}), "
                f"but a round has {cohort}: {lower}raise server.cohort"
            )
    if isinstance(rule, MultiKrum):
        chosen, most = rule.num_nodes_to_select, cohort - rule.num_malicious_nodes
        if not 1 <= chosen <= most:
            raise BadInput(
                f"{name}: num_nodes_to_select is {chosen}, but of {cohort} clients only 1 "
                f"to {most} can be selected without a malicious one"
            )
    # Flower holds beta below a half, so that it never cuts all.
    if isinstance(rule, FedTrimmedAvg) and rule.beta > 0 and not int(rule.beta * cohort):
        raise BadInput(
            f"{name} with beta {rule.beta:g} cuts nothing of {cohort} replies and is a plain mean: "
            f"set beta to {1 / cohort:.2g} or more, or to 0"
        )


def too_few(rule: FedAvg, replies: int) -> bool:
    """Whether nothing can be said of so few replies, so that the model had better stay."""
    return isinstance(rule, Bulyan | MultiKrum) and replies < FEWEST


@contextmanager
def fitted(rule: FedAvg, *, round: int, replies: int, cohort: int) -> Iterator[None]:
    """Let a rule work with the replies that a round is left with; afterwards it is as before.

    With too few for its number of attackers, Krum, Multi-Krum and Bulyan go on with the most that
    these replies allow, and Multi-Krum selects no more than it was sure of. A trimmed mean cuts as
    many as of a full cohort, as long as one is left.

    Args:
        rule: The rule, which stands what it should in a full cohort.
        round: Counted from 1, for the warning.
        replies: How many there are.
        cohort: How many there should be.
    """
    changed: dict[str, float] = {}
    if isinstance(rule, Bulyan | MultiKrum) and replies < _needed(rule, rule.num_malicious_nodes):
        changed["num_malicious_nodes"] = _bearable(rule, replies)
        log.warning(
            "round %d: %s has %d replies of %d, too few for %d malicious clients; it stands %d",
            round,
            type(rule).__name__,
            replies,
            cohort,
            rule.num_malicious_nodes,
            changed["num_malicious_nodes"],
        )
    if isinstance(rule, MultiKrum):
        sure = max(1, replies - rule.num_malicious_nodes)
        changed["num_nodes_to_select"] = min(rule.num_nodes_to_select, sure)
    if isinstance(rule, FedTrimmedAvg):
        full = int(rule.beta * cohort)
        cut = min(full, (replies - 1) // 2)
        if cut < full:
            log.warning(
                "round %d: %s has %d replies of %d; it cuts %d at each end instead of %d",
                round,
                type(rule).__name__,
                replies,
                cohort,
                cut,
                full,
            )
        if int(rule.beta * replies) != cut:
            # Flower rounds beta * n down; a quarter more keeps it clear of the next lower number.
            changed["beta"] = (cut + 0.25) / replies
    kept = {name: getattr(rule, name) for name in changed}
    try:
        for name, value in changed.items():
            setattr(rule, name, value)
        yield
    finally:
        for name, value in kept.items():
            setattr(rule, name, value)


def _needed(rule: Bulyan | MultiKrum, malicious: int) -> int:
    return 4 * malicious + 3 if isinstance(rule, Bulyan) else 2 * malicious + 3


def _bearable(rule: Bulyan | MultiKrum, replies: int) -> int:
    """The most attackers that so many replies allow."""
    return (replies - FEWEST) // (4 if isinstance(rule, Bulyan) else 2)
