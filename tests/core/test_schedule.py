import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlab.core.schedule import (
    combined,
    names_client,
    names_round,
    resolve_clients,
    resolve_rounds,
    spell,
)


@pytest.mark.parametrize(
    ("text", "rounds"),
    [
        ("all", {1, 2, 3, 4, 5, 6, 7, 8}),
        ("3", {3}),
        ("3-6", {3, 4, 5, 6}),
        ("1,4,7-", {1, 4, 7, 8}),
        ("every 2", {2, 4, 6, 8}),
        ("from 3 every 2", {3, 5, 7}),
        ("From  3  every 2 , 1", {1, 3, 5, 7}),
    ],
)
def test_rounds_are_read(text: str, rounds: set[int]) -> None:
    assert resolve_rounds(text, 8) == rounds


@pytest.mark.parametrize(
    ("text", "clients"),
    [
        ("all", set(range(10))),
        ("0", {0}),
        ("0-3", {0, 1, 2, 3}),
        ("0,5,8-", {0, 5, 8, 9}),
        ("20%", {0, 1}),
        ("last 20%", {8, 9}),
        ("1%", {0}),
        ("20%, last 10%", {0, 1, 9}),
    ],
)
def test_clients_are_read(text: str, clients: set[int]) -> None:
    assert resolve_clients(text, 10) == clients


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("9", "names round 9, but rounds go from 1 to 8"),
        ("0", "names round 0"),
        ("5-12", "names round 12"),
        ("6-3", "runs backwards"),
        ("sometimes", "cannot be read; write rounds as"),
        ("1,,3", "empty part"),
        ("every 0", "steps by nothing"),
        ("from 9 every 2", "names round 9"),
        ("", "empty part"),
    ],
)
def test_impossible_rounds_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        resolve_rounds(text, 8)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("10", "clients go from 0 to 9"), ("0%", "not a share"), ("120%", "not a share")],
)
def test_impossible_clients_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        resolve_clients(text, 10)


@given(st.sets(st.integers(1, 40), min_size=1))
def test_spelled_numbers_are_read_back(rounds: set[int]) -> None:
    assert resolve_rounds(spell(rounds), 40) == rounds


@given(st.integers(1, 500), st.floats(0.1, 100))
def test_a_share_is_its_part_of_all_clients(total: int, percent: float) -> None:
    chosen = resolve_clients(f"{percent:.3f}%", total)
    assert 1 <= len(chosen) <= total
    assert abs(len(chosen) - total * percent / 100) <= 1


CELLS = st.tuples(
    st.frozensets(st.integers(1, 5), min_size=1), st.frozensets(st.integers(0, 4), min_size=1)
)


@given(cells=st.lists(CELLS, max_size=5))
def test_every_combination_of_entries_occurs_once(
    cells: list[tuple[frozenset[int], frozenset[int]]],
) -> None:
    by_hand: dict[tuple[int, ...], set[tuple[int, int]]] = {}
    for round in range(1, 6):
        for client in range(5):
            places = tuple(i for i, (r, c) in enumerate(cells) if round in r and client in c)
            by_hand.setdefault(places, set()).add((round, client))
    found = list(combined(cells))
    assert sorted(places for *_, places in found) == sorted(by_hand.keys() - {()})
    assert all((round, client) in by_hand[places] for round, client, places in found)


@pytest.mark.parametrize(
    "text", ["all", "3", "3-6", "1,4,7-", "every 2", "from 3 every 2", "40", "1-40"]
)
def test_a_run_of_unknown_length_is_taken_as_long(text: str) -> None:
    named = {round for round in range(1, 61) if names_round(text, round)}
    assert named == resolve_rounds(text, 60)


@pytest.mark.parametrize("text", ["all", "0", "0-3", "0,5,8-", "59"])
def test_nobody_knows_how_many_clients(text: str) -> None:
    named = {client for client in range(60) if names_client(text, client)}
    assert named == resolve_clients(text, 60)


def test_a_share_of_nobody_knows_how_many_is_refused() -> None:
    with pytest.raises(ValueError, match="whose number is not known"):
        names_client("last 20%", 3)
