"""A broken plug-in costs one sentence that names it."""

import json

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


ATTACKED = {"clients": "0", "preset": "fast", "iterations": 2}


@pytest.mark.parametrize(
    ("tables", "name"),
    [
        ({"roles": [{"role": "poisoning", "data": {"attack": "N"}}]}, "Unpoisoned"),
        ({"roles": [{"role": "poisoning", "update": {"attack": "N"}}]}, "Untampered"),
        ({"data": {"source": "N"}}, "fail"),
        ({"data": {"clients": 2, "partition": "N"}}, "fail"),
        ({"model": {"name": "N"}}, "fail"),
        ({"server": {"strategy": "N"}}, "fail"),
        ({"reconstructions": [{**ATTACKED, "preset": "N"}]}, "fail"),
        ({"reconstructions": [{**ATTACKED, "method": "N"}]}, "fail"),
        ({"reconstructions": [{**ATTACKED, "objective": "N"}]}, "fail"),
        ({"reconstructions": [{**ATTACKED, "priors": {"N": 1.0}}]}, "fail"),
        (
            {"reconstructions": [{**ATTACKED, "labels": "inferred", "label_rule": "N"}]},
            "fail",
        ),
        ({"metrics": ["N"], "reconstructions": [ATTACKED]}, "failing_metric"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_failing_plugin_is_named(tables, name):
    path = f"{HERE}.broken:{name}"
    leaking = {"roles": [{"role": "leaking", "clients": "0"}]}
    filled = json.loads(json.dumps(leaking | tables).replace('"N"', json.dumps(path)))
    with pytest.raises((BadInput, RunFailed)) as raised:
        finished(small("rounds=1", **filled))
    message = str(raised.value)
    assert path in message or "failing" in message
    assert "\n" not in message


def test_failing_tracker_costs_a_warning(caplog):
    done = finished(small("rounds=1", trackers=[f"{HERE}.broken:Unlogged"]))
    assert done.round == 1
    (warning,) = {each.getMessage() for each in caplog.records if "Unlogged" in each.getMessage()}
    assert f'tracker "{HERE}.broken:Unlogged"' in warning
