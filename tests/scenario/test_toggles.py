"""Switching a defense changes exactly the cells that were meant."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlab import BadInput
from fedlab.scenario.toggles import toggled
from tests.federations import small

CLIENTS = st.frozensets(st.integers(0, 3), min_size=1)


def grid(scenario, name="dp-sgd"):
    return {
        (round, client): [
            entry
            for entry in scenario.defenses_on(round=round, client=client)
            if entry.name == name
        ]
        for round in range(1, 5)
        for client in range(4)
    }


@settings(deadline=None, max_examples=60)
@given(steps=st.lists(st.tuples(st.integers(1, 4), CLIENTS, st.booleans()), max_size=4))
def test_toggles_agree_with_a_plain_table(steps):
    scenario = small(defenses=[{"name": "dp-sgd", "rounds": "2-3", "clients": "1-2"}])
    expected = {cell: bool(entries) for cell, entries in grid(scenario).items()}
    for from_round, clients, on in steps:
        scenario = toggled(scenario, "dp-sgd", on=on, clients=clients, from_round=from_round)
        for round, client in expected:
            if round >= from_round and client in clients:
                expected[round, client] = on
    found = grid(scenario)
    assert {cell: bool(entries) for cell, entries in found.items()} == expected
    assert all(len(entries) <= 1 for entries in found.values())
    assert scenario.parse(scenario.to_toml()) == scenario


def test_toggle_takes_settings_of_the_first_entry():
    scenario = small(defenses=[{"name": "dp-sgd", "rounds": "1", "noise_multiplier": 3.0}])
    on = toggled(scenario, "dp-sgd", on=True, clients=[0], from_round=2)
    assert grid(on)[2, 0][0].noise_multiplier == 3.0
    other = toggled(
        scenario,
        "dp-sgd",
        on=True,
        clients=[0],
        from_round=1,
        settings={"noise_multiplier": 0.5},
    )
    assert grid(other)[1, 0][0].noise_multiplier == 0.5
    assert grid(other)[1, 1][0].noise_multiplier == 3.0


def test_toggle_after_the_last_round_is_refused():
    with pytest.raises(BadInput, match="all 4 rounds are over"):
        toggled(small(), "dp-sgd", on=True, clients=[0], from_round=5)


NAMES = st.sampled_from(["dp-sgd", "dp-instahide"])


@settings(deadline=None, max_examples=60)
@given(steps=st.lists(st.tuples(NAMES, st.integers(1, 4), CLIENTS, st.booleans()), max_size=5))
def test_two_defenses_clash_as_a_plain_table_says(steps):
    scenario = small()
    cells = {(round, client): set() for round in range(1, 5) for client in range(4)}
    for name, from_round, clients, on in steps:
        wanted = {cell: set(names) for cell, names in cells.items()}
        for round, client in wanted:
            if round >= from_round and client in clients:
                (wanted[round, client].add if on else wanted[round, client].discard)(name)
        change = {"on": on, "clients": clients, "from_round": from_round}
        if any(len(names) == 2 for names in wanted.values()):
            with pytest.raises(BadInput, match="both dp-sgd and dp-instahide"):
                toggled(scenario, name, **change)
            continue
        scenario, cells = toggled(scenario, name, **change), wanted
        for (round, client), names in cells.items():
            found = [entry.name for entry in scenario.defenses_on(round=round, client=client)]
            assert sorted(found) == sorted(names)


def test_toggle_keeps_past_rounds_and_other_clients():
    scenario = small(defenses=[{"name": "dp-sgd", "noise_multiplier": 3.0}])
    changed = toggled(
        scenario,
        "dp-sgd",
        on=True,
        clients=[0, 1],
        from_round=3,
        settings={"noise_multiplier": 0.5, "clipping_norm": 2.0},
    )
    for (round, client), (entry,) in grid(changed).items():
        new = round >= 3 and client <= 1
        assert entry.noise_multiplier == (0.5 if new else 3.0)
        assert entry.clipping_norm == (2.0 if new else 1.0)


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(
        st.tuples(st.integers(1, 4), st.frozensets(st.integers(1, 4)), CLIENTS, st.booleans()),
        max_size=4,
    )
)
def test_only_named_future_rounds_change(steps):
    scenario = small(defenses=[{"name": "dp-sgd", "rounds": "2-3", "clients": "1-2"}])
    expected = {cell: bool(entries) for cell, entries in grid(scenario).items()}
    for from_round, rounds, clients, on in steps:
        change = {"on": on, "clients": clients, "from_round": from_round}
        text = ",".join(map(str, rounds)) or "all"
        left = [round for round in (rounds or range(1, 5)) if round >= from_round]
        if not left:
            with pytest.raises(BadInput, match=f"are over: the next round is {from_round}"):
                toggled(scenario, "dp-sgd", rounds=text, **change)
            continue
        scenario = toggled(scenario, "dp-sgd", rounds=text, **change)
        expected |= {(round, client): on for round in left for client in clients}
        assert {cell: bool(entries) for cell, entries in grid(scenario).items()} == expected


def test_conflict_names_rounds_without_it():
    mixing = small(defenses=[{"name": "dp-instahide", "rounds": "3", "clients": "2-3"}])
    change = {"on": True, "clients": [1, 3], "from_round": 2}
    with pytest.raises(BadInput, match=r'round 3, client 3 has both .*; rounds="2,4" switches'):
        toggled(mixing, "dp-sgd", **change)
    assert grid(toggled(mixing, "dp-sgd", rounds="2,4", **change))[4, 3]
    with pytest.raises(BadInput, match=r"round 3, client 3 has both .* rounds or clients$"):
        toggled(mixing, "dp-sgd", rounds=3, **change)
    with pytest.raises(BadInput, match="noise_multiplier"):
        toggled(mixing, "dp-sgd", settings={"noise_multiplier": -1}, **change)


@pytest.mark.parametrize("on", [True, False])
def test_misspelt_defense_names_the_nearest(on):
    with pytest.raises(BadInput, match=r'no defense "dp-sdg"; did you mean "dp-sgd"\?'):
        toggled(small(), "dp-sdg", on=on, clients=[0], from_round=1)


def test_settings_with_off_are_refused():
    with pytest.raises(BadInput, match="takes no noise_multiplier"):
        toggled(
            small(),
            "dp-sgd",
            on=False,
            clients=[0],
            from_round=1,
            settings={"noise_multiplier": 2.0},
        )


@pytest.mark.parametrize("rounds", ["5", "0", "2-1", "", "soon"])
def test_unreadable_or_missing_rounds_are_refused(rounds):
    with pytest.raises(BadInput):
        toggled(small(), "dp-sgd", on=True, clients=[0], from_round=1, rounds=rounds)


@pytest.mark.parametrize("clients", [[], [-1], [4], [0, 9]])
def test_unknown_clients_are_refused(clients):
    with pytest.raises(BadInput, match="clients go from 0 to 3"):
        toggled(small(), "dp-sgd", on=True, clients=clients, from_round=1)


def test_toggle_leaves_the_old_scenario_unchanged():
    scenario = small(defenses=[{"name": "dp-sgd"}])
    text = scenario.to_toml()
    toggled(scenario, "dp-sgd", on=False, clients=[0], from_round=2)
    assert scenario.to_toml() == text
