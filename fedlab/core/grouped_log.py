"""Log messages about clients, of which those with the same reason share a line."""

import logging
from collections.abc import Iterable

from fedlab.core.schedule import spell


def log_by_reason(
    log: logging.Logger,
    level: int,
    reasons: Iterable[tuple[int | str, str]],
    *,
    round: int,
    verbs: tuple[str, str],
) -> None:
    """Log what happened to each subject in a round and why, with a line for each reason.

    Args:
        log: Logger.
        level: Level of the messages, such as ``logging.WARNING``.
        reasons: Each subject, the number of a client or some words, and its reason.
        round: Round number, counted from 1.
        verbs: What happened to one and to several, such as ``is skipped`` and ``are skipped``.
    """
    alike: dict[str, list[int | str]] = {}
    for subject, reason in reasons:
        alike.setdefault(reason, []).append(subject)
    for reason, subjects in alike.items():
        clients = [one for one in subjects if isinstance(one, int)]
        who = [one for one in subjects if isinstance(one, str)]
        if clients:
            who.insert(0, f"client{'s' * (len(clients) > 1)} {spell(clients)}")
        verb = verbs[len(subjects) > 1]
        log.log(level, "round %d: %s %s: %s", round, " and ".join(who), verb, reason)
