"""A broken plug-in costs one sentence that names it."""

import pytest

from fedlab import BadInput, RunFailed
from tests.federations import finished, small

HERE = "tests.plugins"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("does_not_import:Mine", "cannot be imported: ModuleNotFoundError: No module named 'a_pa"),
        ("broken:Missing", "module tests.plugins.broken has no Missing"),
        ("broken:Silent", "lacks the method wrap"),
        ("broken:__doc__", "is no subclass of fedlab.defenses.base.Defense"),
    ],
)
def test_scenario_refuses_broken_defense(name, sentence):
    with pytest.raises(BadInput) as raised:
        small(defenses=[{"name": f"{HERE}.{name}"}])
    message = str(raised.value)
    assert f'defense "{HERE}.{name}"' in message
    assert sentence in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("broken:Raising", "failed: KeyError: 'weights'"),
        ("broken:Empty", "wrap returned NoneType, not a Pipeline"),
        ("broken:Claiming", "claims an epsilon, so its class must set account"),
    ],
)
def test_failing_defense_stops_the_run_by_name(name, sentence):
    scenario = small("rounds=1", defenses=[{"name": f"{HERE}.{name}"}])
    with pytest.raises(RunFailed) as raised:
        finished(scenario)
    message = str(raised.value)
    assert f'"{HERE}.{name}"' in message
    assert sentence in message
    assert "\n" not in message
