"""How many malicious clients an aggregation rule tolerates, and what it does in a short round."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from flwr.serverapp.strategy import Bulyan, FedAvg, FedTrimmedAvg, MultiKrum

from fedlab.core.errors import BadInput

log = logging.getLogger(__name__)

FEWEST = 3
"""Smallest number of replies among which Krum and Bulyan can tell one from the others."""


def refuse_small_cohort(rule: FedAvg, cohort: int) -> None:
    """Refuse a rule whose guarantee needs more replies than a round can have.

    Krum and Multi-Krum need ``n > 2 f + 2`` (Blanchard et al. 2017, proposition 4.2), Bulyan
    ``n >= 4 f + 3`` (El Mhamdi et al. 2018, section 4). A trimmed mean must cut something. Any
    other rule may state its own limit by a method ``cohort_problem``, see ``ChangeRule``.

    Args:
        rule: Aggregation rule with its options.
        cohort: Number of clients in a round.

    Raises:
        BadInput: If the cohort is too small.
    """
    name = type(rule).__name__
    own_limit = getattr(rule, "cohort_problem", None)
    if own_limit is not None and (problem := own_limit(cohort)):
        raise BadInput(f"{name} {problem}")
    if isinstance(rule, Bulyan | MultiKrum):
        malicious = rule.num_malicious_nodes
        if malicious < 0:
            raise BadInput(f"{name}: num_malicious_nodes is a whole number of at least 0")
        if cohort < (needed := _required_replies(rule, malicious)):
            lower = (
                f"lower num_malicious_nodes to {_tolerated(rule, cohort)} or "
                if cohort >= FEWEST
                else ""
            )
            formula = "4 f + 3" if isinstance(rule, Bulyan) else "2 f + 3"
            raise BadInput(
                f"{name} tolerates {malicious} malicious clients among {needed} or more "
                f"({formula}), but a round has {cohort}: {lower}raise server.cohort"
            )
    if isinstance(rule, MultiKrum):
        chosen, most = rule.num_nodes_to_select, cohort - rule.num_malicious_nodes
        if not 1 <= chosen <= most:
            raise BadInput(
                f"{name}: num_nodes_to_select is {chosen}, but of {cohort} clients only 1 "
                f"to {most} can be selected without a malicious one"
            )
    # Flower keeps beta below a half, so that it never cuts everything.
    if isinstance(rule, FedTrimmedAvg) and rule.beta > 0 and not int(rule.beta * cohort):
        raise BadInput(
            f"{name} with beta {rule.beta:g} cuts nothing of {cohort} replies and is a plain mean: "
            f"set beta to {1 / cohort:.2g} or more, or to 0"
        )


@contextmanager
def fitted(rule: FedAvg, *, round: int, replies: int, cohort: int) -> Iterator[None]:
    """Adapt a rule to the replies of a short round, and restore its options afterwards.

    With too few replies for their number of malicious clients, Krum, Multi-Krum and Bulyan tolerate
    the most that these replies allow, and Multi-Krum selects no more replies than are surely
    honest. A trimmed mean cuts as many replies as of a full cohort, as long as one is left.

    Args:
        rule: Aggregation rule with its options for a full cohort.
        round: Round number, counted from 1, for the warning.
        replies: Number of replies.
        cohort: Number of clients in the cohort.
    """
    changed: dict[str, float] = {}
    if isinstance(rule, Bulyan | MultiKrum) and replies < _required_replies(
        rule, rule.num_malicious_nodes
    ):
        changed["num_malicious_nodes"] = _tolerated(rule, replies)
        log.warning(
            "round %d: %s has %d replies of %d, too few for %d malicious clients; it tolerates %d",
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


def _required_replies(rule: Bulyan | MultiKrum, malicious: int) -> int:
    return 4 * malicious + 3 if isinstance(rule, Bulyan) else 2 * malicious + 3


def _tolerated(rule: Bulyan | MultiKrum, replies: int) -> int:
    """Largest number of malicious clients that a rule tolerates among so many replies."""
    return (replies - FEWEST) // (4 if isinstance(rule, Bulyan) else 2)
