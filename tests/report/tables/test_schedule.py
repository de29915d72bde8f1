"""A schedule merges equal rows and columns, in terminals and in HTML."""

from fedlab.report.tables.schedule import schedule_grid
from fedlab.scenario.scenario import Scenario
from fedlab.scenario.tables import NO_PROTECTION
from tests.report.page.pages import Page

SCENARIO = Scenario(
    rounds=4,
    data={"clients": 5},
    roles=[{"role": "leaking", "clients": "0"}, {"role": "poisoning", "clients": "4"}],
    defenses=[{"name": "dp-sgd", "rounds": "3-4"}, {"name": "pruning", "rounds": "3-4"}],
    reconstructions=[{"clients": "0", "rounds": "3-4"}],
)


def test_equal_neighbours_are_merged():
    found = schedule_grid(SCENARIO)
    assert [column.header for column in found.columns[1:]] == ["1-2", "3-4"]
    assert [row[0] for row in found.rows] == ["0", "1-3", "4"]
    assert [[str(cell) for cell in row[1:]] for row in found.rows] == [
        ["leak", "leak* dp-sgd pruning"],
        ["·", "· dp-sgd pruning"],
        ["poison", "poison dp-sgd pruning"],
    ]


def test_malicious_server_and_central_dp_are_marked():
    plain, marked = (
        schedule_grid(SCENARIO.changed(server=server))
        for server in ({}, {"malicious": {"attack": "imprint"}, "central_dp": {}})
    )
    assert plain.note == "· honest   * attacked by the server"
    assert marked.note == f"{plain.note}   ! malicious server\n{NO_PROTECTION}"
    assert str(marked.rows[1][1]) == "·!"


def test_defenses_have_colour_and_name_in_html():
    text = schedule_grid(SCENARIO).__html__()
    assert '<span style="color:#0072B2">■</span> dp-sgd' in text
    assert "honest" in Page(text).text


def test_equal_rounds_of_a_long_run_share_a_column():
    long = SCENARIO.changed(rounds=1_000, defenses=[{"name": "dp-sgd", "rounds": "every 2"}])
    found = schedule_grid(long.changed(reconstructions=[]))
    headers = [column.header for column in found.columns[1:]]
    assert headers == [
        "1,3,5,7,9,11,…,999 (500 in all)",
        "2,4,6,8,10,12,…,1000 (500 in all)",
    ]
    assert [str(cell) for cell in found.rows[1][1:]] == ["·", "· dp-sgd"]
    assert "Only the first" not in found.note


def test_schedule_of_many_kinds_is_cut_and_says_so():
    roles = [
        {
            "role": "poisoning",
            "clients": f"{c}",
            "rounds": f"{c + 1}",
            "data": {"attack": "badnets"},
        }
        for c in range(60)
    ]
    found = schedule_grid(Scenario(rounds=60, data={"clients": 60}, roles=roles))
    assert (len(found.columns), len(found.rows)) == (1 + 40, 60)
    assert "Only the first 40 different rounds and 60 different clients are shown" in found.note
