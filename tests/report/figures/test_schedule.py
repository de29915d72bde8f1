import pytest
from matplotlib.colors import to_hex

from fedlab import Scenario
from fedlab.report.figures.colours import defense_colour
from tests.federations import small
from tests.report.legible import assert_legible, said


def test_cells_have_the_colour_of_their_defense():
    figure = small(defenses=[{"name": "pruning", "rounds": "2", "clients": "0-1"}]).plot()
    (axes,) = figure.axes
    cells = {patch.get_xy(): to_hex(patch.get_facecolor()) for patch in axes.patches}
    colour = defense_colour("pruning").lower()
    assert [place for place, drawn in cells.items() if drawn == colour] == [(1, 0)]
    assert len(cells) == 6  # rounds 1, 2 and 3-4 across, clients 0-1 and 2-3 down
    assert "clients 0-1 in rounds 2: · pruning" in figure.alt


@pytest.mark.parametrize("name", ["quickstart", "defenses", "malicious_server", "unmixed"])
def test_shipped_schedules_can_be_read(name):
    figure = Scenario.load(name).plot()
    assert_legible(figure)
    assert f"{name}: who does what in which round?" in " ".join(said(figure).split())


def test_forty_rounds_of_changing_defenses_can_be_read():
    defenses = [
        {"name": name, "rounds": f"from {first} every 2", "clients": "0"}
        for name, first in (("pruning", 1), ("clip-noise", 2), ("quantisation", 1))
    ]
    assert_legible(small(rounds=40, defenses=defenses).plot())
