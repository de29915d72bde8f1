"""The controls of a notebook do what their labels say."""

import sys

import pytest

from fedlab import BadInput, Federation
from fedlab.defenses.base import DEFENSES
from tests.federations import small

widgets = pytest.importorskip("ipywidgets")
# ipywidgets talks to a kernel, which is not there.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def federation():
    return Federation(
        small(
            rounds=2,
            roles=[{"role": "leaking", "clients": "0"}],
            reconstructions=[{"clients": "0", "preset": "fast", "iterations": 2}],
        )
    )


@pytest.fixture
def panel(federation):
    return federation.controls()


def find(panel, name):
    """The control with a label."""
    inside = [each for box in panel.children for each in getattr(box, "children", [box])]
    return next(each for each in inside if getattr(each, "description", None) == name)


def test_a_defense_is_switched_with_its_sliders(federation, panel):
    find(panel, "defense").value = "dp-sgd"
    find(panel, "noise_multiplier").value = 2.5
    find(panel, "clients").value = "1"
    find(panel, "switch on").click()
    (entry,) = federation.scenario.defenses_on(round=1, client=1)
    assert (entry.name, entry.noise_multiplier) == ("dp-sgd", pytest.approx(2.5))
    assert not federation.scenario.defenses_on(round=1, client=0)
    assert "dp-sgd is on for clients 1 in rounds all of" in panel.children[-2].value
    find(panel, "switch off").click()
    assert not federation.scenario.defenses_on(round=1, client=1)


def test_the_next_round_is_run_and_drawn(federation, panel):
    find(panel, "next round").click()
    assert federation.round == 1
    assert "round 1" in panel.children[-2].value
    assert panel.children[-1].value.count("<img") == 2  # images and timeline


def test_a_mistake_is_a_sentence(federation, panel):
    find(panel, "clients").value = "7-"
    find(panel, "switch on").click()
    assert panel.children[-2].value.startswith("<b>")
    for _ in range(3):
        find(panel, "next round").click()
    assert "all 2 rounds of this scenario are over" in panel.children[-2].value


def test_every_defense_has_controls(panel):
    for name in DEFENSES.builtin:
        find(panel, "defense").value = name
        shown = {each.description for each in panel.children[1].children}
        assert shown <= set(DEFENSES.get(name).model_fields)


def test_without_ipywidgets_a_sentence_says_so(federation, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(BadInput, match="controls need ipywidgets"):
        federation.controls()
