"""A broken plug-in costs one sentence that names it."""

import json

import pytest

from fedlab import Account, BadInput, Federation, RunFailed
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
        ("broken:Uncharged", "states an account but charges nothing"),
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


def test_defense_failing_at_one_client_fails_the_run_at_its_end():
    scenario = small("rounds=2", defenses=[{"name": f"{HERE}.broken:Raising", "clients": "1"}])
    federation = Federation(scenario)
    with pytest.raises(RunFailed, match=r"client 1 failed in round 1: .*Raising.*1 more such"):
        federation.run()
    assert federation.round == 2
    assert federation.folder.table("clients")["status"].tolist().count("ok") == 6


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"unit": "image"}, "unit 'image' is unknown"),
        ({"composition": "gauss"}, 'did you mean "gaussian"'),
        ({"composition": "gaussian"}, "needs a sensitivity"),
    ],
)
def test_account_without_meaning_is_refused(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        Account(**{"unit": "client", "adjacency": "replace-one", **given})


def test_misspelt_flag_of_a_defense_is_named(tmp_path, monkeypatch):
    (tmp_path / "misspelt.py").write_text(
        "from fedlab.defenses import Defense\nclass Mine(Defense):\n    change_update = True\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="has no attribute change_update; a setting needs a type"):
        small(defenses=[{"name": "misspelt:Mine"}])


def test_metric_named_as_a_built_in_column_is_refused():
    with pytest.raises(BadInput, match="writes the column psnr, which is built in"):
        finished(small("rounds=1", metrics=[f"{HERE}.broken:own_psnr"]))


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
