"""Log messages about clients, of which those with the same reason share a line."""

import logging
from collections.abc import Iterable


def log_by_reason(
    log: logging.Logger,
    level: int,
    reasons: Iterable[tuple[str, str]],
    *,
    round: int,
    verbs: tuple[str, str],
    noun: str,
) -> None:
    """Log what happened to each subject in a round and why, with a line for each reason.

    Args:
        log: Logger.
        level: Level of the messages, such as ``logging.WARNING``.
        reasons: Name and reason of each subject.
        round: Round number, counted from 1.
        verbs: What happened to one and to several, such as ``is skipped`` and ``are skipped``.
        noun: Word for several subjects, such as ``clients``.
    """
    named: dict[str, list[str]] = {}
    for name, reason in reasons:
        named.setdefault(reason, []).append(name)
    for reason, names in named.items():
        who = names[0] if len(names) == 1 else f"{len(names)} {noun}"
        log.log(level, "round %d: %s %s: %s", round, who, verbs[len(names) > 1], reason)
