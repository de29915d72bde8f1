"""A schedule takes as few rows and columns as it can, whether drawn as text or as HTML."""

from fedlab.report.html.scenario import schedule_table
from fedlab.report.tables.schedule_cells import schedule_cells
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


def test_equal_neighbours_stand_together():
    found = schedule_cells(SCENARIO)
    assert found.rounds == ("1-2", "3-4")
    assert found.clients == ("0", "1-3", "4")
    assert [[str(cell) for cell in row] for row in found.cells] == [
        ["leak", "leak* dp-sgd pruning"],
        ["·", "· dp-sgd pruning"],
        ["poison", "poison dp-sgd pruning"],
    ]


def test_what_a_malicious_server_and_central_dp_add():
    plain, marked = (
        schedule_cells(SCENARIO.changed(server=server))
        for server in ({}, {"malicious": {"attack": "imprint"}, "central_dp": {}})
    )
    assert (len(plain.marks), plain.remark) == (1, "")
    assert (len(marked.marks), marked.remark) == (2, NO_PROTECTION)
    assert str(marked.cells[1][0]) == "·!"


def test_a_defense_has_its_colour_and_its_name():
    text = schedule_table(SCENARIO)
    assert '<span style="color:#0072B2">■</span> dp-sgd' in text
    assert "honest" in Page(text).text
