"""The small language in which a scenario names rounds and clients.

Rounds count from 1: ``"all"``, ``"3"``, ``"3-6"``, ``"1,4,7-"``, ``"every 2"`` (2, 4, 6, ...),
``"from 3 every 2"`` (3, 5, 7, ...). Clients are partition ids and count from 0: ``"all"``,
``"0"``, ``"0-3"``, ``"0,5,8-"``, ``"20%"`` (the first fifth), ``"last 20%"``.
"""

import re
from collections.abc import Iterable, Iterator, Sequence, Set
from itertools import product
from typing import Annotated

from pydantic import BeforeValidator

_RANGE = re.compile(r"(\d+)(?:\s*(-)\s*(\d+)?)?")
_EVERY = re.compile(r"(?:from\s+(\d+)\s+)?every\s+(\d+)")
_SHARE = re.compile(r"(last\s+)?(\d+(?:\.\d+)?)\s*%")

MOST = 100_000
"""Largest number of rounds, and of clients."""
LONGEST = 20_000
"""Largest number of letters of a text."""

ROUNDS_HELP = 'write rounds as "all", "3", "3-6", "1,4,7-", "every 2" or "from 3 every 2"'
CLIENTS_HELP = 'write clients as "all", "0", "0-3", "0,5,8-", "20%" or "last 20%"'


def resolve_rounds(text: str, total: int) -> frozenset[int]:
    """Find the rounds that a text names, out of ``1 .. total``.

    Args:
        text: Comma-separated parts; see the module's docstring.
        total: Number of rounds in the scenario, at least 1.

    Returns:
        Round numbers, at least one.

    Raises:
        ValueError: If a part cannot be read, or names a round that does not exist.

    Example:
        >>> sorted(resolve_rounds("1,4,7-", 8))
        [1, 4, 7, 8]
        >>> sorted(resolve_rounds("from 3 every 2", 8))
        [3, 5, 7]
    """
    chosen: set[int] = set()
    for part in _parts(text, total, ROUNDS_HELP):
        if every := _EVERY.fullmatch(part):
            step = int(every[2])
            first = int(every[1]) if every[1] else step
            if step == 0:
                raise ValueError(f'"{part}" steps by nothing; {ROUNDS_HELP}')
            _within(first, 1, total, "round", part)
            chosen.update(range(first, total + 1, step))
        else:
            chosen.update(_range(part, 1, total, "round", ROUNDS_HELP))
    return frozenset(chosen)


def resolve_clients(text: str, total: int) -> frozenset[int]:
    """Find the clients that a text names, out of ``0 .. total - 1``.

    A share is a percentage of all clients, rounded to the nearest whole number but at least one.

    Args:
        text: Comma-separated parts; see the module's docstring.
        total: Number of clients of the scenario, at least 1.

    Returns:
        Partition ids, at least one.

    Raises:
        ValueError: If a part cannot be read, or names a client that does not exist.

    Example:
        >>> sorted(resolve_clients("20%, last 10%", 10))
        [0, 1, 9]
    """
    chosen: set[int] = set()
    for part in _parts(text, total, CLIENTS_HELP):
        if share := _SHARE.fullmatch(part):
            percent = float(share[2])
            if not 0 < percent <= 100:
                raise ValueError(f'"{part}" is not a share between 0% and 100%')
            count = max(1, round(total * percent / 100))
            chosen.update(range(total - count, total) if share[1] else range(count))
        else:
            chosen.update(_range(part, 0, total - 1, "client", CLIENTS_HELP))
    return frozenset(chosen)


def names_round(text: str, round: int) -> bool:
    """Test whether a text names a round, in a run of unknown length.

    Args:
        text: Comma-separated parts; see the module's docstring.
        round: Round number, counted from 1.

    Raises:
        ValueError: If a part cannot be read.

    Example:
        >>> [names_round("2,5-", round) for round in (1, 2, 400)]
        [False, True, True]
    """
    return round in resolve_rounds(text, max(round, _largest(text)))


def names_client(text: str, client: int) -> bool:
    """Test whether a text names a client, in a federation of unknown size.

    Args:
        text: Comma-separated parts without shares; see the module's docstring.
        client: Partition id, counted from 0.

    Raises:
        ValueError: If a part cannot be read, or is a share.

    Example:
        >>> [names_client("0,3-", client) for client in (0, 1, 400)]
        [True, False, True]
    """
    if "%" in text:
        raise ValueError(f'"{text}" is a share of all clients, whose number is not known here')
    return client in resolve_clients(text, 1 + max(client, _largest(text)))


def spell(numbers: Iterable[int]) -> str:
    """Write the shortest text that names exactly these rounds or clients.

    Example:
        >>> spell([1, 2, 3, 7])
        '1-3,7'
    """
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def combined(
    cells: Sequence[tuple[Set[int], Set[int]]],
) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Find every combination of entries that applies somewhere, and one cell where it does.

    Args:
        cells: Rounds and clients of each entry of a schedule.

    Yields:
        A round, a client, and the indices of the entries that apply there.

    Example:
        >>> list(combined([({1, 2}, {0}), ({2, 3}, {0, 1})]))
        [(1, 0, (0,)), (2, 0, (0, 1)), (2, 1, (1,))]
    """
    # Most rounds have the same entries as others, and so do clients: one of each kind suffices.
    kinds = [_kinds([cell[side] for cell in cells]) for side in (0, 1)]
    seen = set()
    for (at_round, round), (at_client, client) in product(*(kind.items() for kind in kinds)):
        places = tuple(sorted(at_round & at_client))
        if places and places not in seen:
            seen.add(places)
            yield round, client, places


def _kinds(members: Sequence[Set[int]]) -> dict[frozenset[int], int]:
    """The first number of each kind; numbers in the same sets are of one kind."""
    kinds: dict[frozenset[int], int] = {}
    for number in sorted(frozenset[int]().union(*members)):
        kinds.setdefault(frozenset(i for i, each in enumerate(members) if number in each), number)
    return kinds


def _largest(text: str) -> int:
    """The largest number in a text, but at least 1."""
    return max([1, *map(int, re.findall(r"\d+", text))])


def _parts(text: str, total: int, help_text: str) -> list[str]:
    if total > MOST:
        raise ValueError(f"there are at most {MOST:,} rounds and as many clients, not {total:,}")
    if len(text) > LONGEST:
        raise ValueError(f"a text of {len(text):,} letters is too long; {help_text}")
    parts = [" ".join(part.split()).lower() for part in text.split(",")]
    if not all(parts):
        raise ValueError(f'"{text}" has an empty part; {help_text}')
    return parts


def _range(part: str, low: int, high: int, what: str, help_text: str) -> range:
    if part == "all":
        return range(low, high + 1)
    matched = _RANGE.fullmatch(part)
    if matched is None:
        raise ValueError(f'"{part}" cannot be read; {help_text}')
    first = _within(int(matched[1]), low, high, what, part)
    if not matched[2]:
        return range(first, first + 1)
    last = _within(int(matched[3]), low, high, what, part) if matched[3] else high
    if last < first:
        raise ValueError(f'"{part}" runs backwards; {help_text}')
    return range(first, last + 1)


def _within(number: int, low: int, high: int, what: str, part: str) -> int:
    if not low <= number <= high:
        raise ValueError(f'"{part}" names {what} {number}, but {what}s go from {low} to {high}')
    return number


def _readable(text: object) -> object:
    """Convert a whole number to text, since a person may write ``rounds = 3``."""
    return str(text) if isinstance(text, int) and not isinstance(text, bool) else text


RoundsText = Annotated[str, BeforeValidator(_readable)]
ClientsText = Annotated[str, BeforeValidator(_readable)]
