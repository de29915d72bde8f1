"""The runs of a comparison change defense, rule, seed and attacks of a scenario only."""

from typing import ClassVar

import pytest

from fedlab import BadInput
from fedlab.comparison.parsing import arm_of, attack_of, rule_of
from fedlab.comparison.run_grid import cells_of
from tests.federations import PLAIN, small

LEAKING = {"role": "leaking", "clients": "0", "rounds": "2-3", "batch_size": 2}
POISONING = {"role": "poisoning", "clients": "3", "data": {"attack": "label-flip"}}


def cells(scenario, defenses=("none",), *, attacks=None, seeds=(0,), rules=None):
    return cells_of(
        scenario,
        [arm_of(each) for each in defenses],
        attacks=None if attacks is None else [attack_of(each) for each in attacks],
        seeds=seeds,
        rules=None if rules is None else [rule_of(each) for each in rules],
    )


def test_every_defense_meets_every_rule_and_seed():
    found = cells(small(), ["none", "mixup"], seeds=(3, 4), rules=["FedAvg", "FedMedian"])
    assert [(each.defense, each.rule, each.seed) for each in found] == [
        (defense, rule, seed)
        for defense in ("none", "mixup")
        for rule in ("FedAvg", "FedMedian")
        for seed in (3, 4)
    ]
    assert len({each.name for each in found}) == 8
    assert {each.scenario.seed for each in found} == {3, 4}


def test_names_are_valid_folder_names():
    (found,) = cells(
        small(), ["dp-sgd:noise_multiplier=0.5+pruning"], rules=["FedTrimmedAvg:beta=0.25"]
    )
    assert found.name == "dp-sgd-noise_multiplier=0.5+pruning-FedTrimmedAvg-beta=0.25-seed-0"


def test_defense_runs_everywhere_and_roles_stay():
    scenario = small(
        roles=[LEAKING, POISONING], defenses=[{"name": "mixup", "rounds": "1", "clients": "0"}]
    )
    (open_run, mixed) = cells(scenario, ["none", "mixup"])
    assert open_run.scenario.defenses == ()
    assert open_run.scenario.roles == mixed.scenario.roles == scenario.roles
    for round in range(1, 5):
        for client in range(4):
            (entry,) = mixed.scenario.defenses_on(round=round, client=client)
            assert entry.name == "mixup"


class TestRules:
    scenario = small(server={"strategy": "FedAvgM", "options": {"server_momentum": 0.9}})

    def test_own_rule_keeps_its_options(self):
        (found,) = cells(self.scenario)
        assert found.rule == "FedAvgM"
        assert found.scenario.server.options == {"server_momentum": 0.9}
        (named,) = cells(self.scenario, rules=["FedAvgM"])
        assert named.scenario == found.scenario

    def test_other_rule_has_its_own_options(self):
        (found,) = cells(self.scenario, rules=["FedTrimmedAvg:beta=0.3"])
        assert found.scenario.server.strategy == "FedTrimmedAvg"
        assert found.scenario.server.options == {"beta": 0.3}


def test_two_names_of_one_rule_are_one():
    own = small(server={"strategy": "FedTrimmedAvg", "options": {"beta": 0.25}})
    with pytest.raises(BadInput, match="twice among the runs"):
        cells(own, rules=["FedTrimmedAvg", "FedTrimmedAvg:beta=0.25"])


class TestAttacks:
    entry: ClassVar = {
        "clients": "0",
        "rounds": "2",
        "labels": "inferred",
        "iterations": 7,
        "tv": 0.5,
    }

    def entries(self, scenario, attacks):
        (found,) = cells(scenario, attacks=attacks)
        return [each.model_dump(exclude_defaults=True) for each in found.scenario.reconstructions]

    def test_own_attacks_stay_by_default(self):
        scenario = small(roles=[LEAKING], reconstructions=[self.entry])
        (found,) = cells(scenario)
        assert found.scenario.reconstructions == scenario.reconstructions

    def test_other_preset_keeps_budget_but_no_tuning(self):
        scenario = small(roles=[LEAKING], reconstructions=[self.entry])
        same, other = self.entries(scenario, ["inverting-gradients", "fast"])
        whole = PLAIN | self.entry
        assert same == whole
        expected = {key: value for key, value in whole.items() if key != "tv"}
        assert other == expected | {"preset": "fast"}

    def test_leaking_clients_are_attacked_by_default(self):
        (entry,) = self.entries(small(roles=[LEAKING]), ["fast"])
        assert entry == {"rounds": "2-3", "clients": "0", "preset": "fast"}

    def test_attacks_without_a_leaking_client_are_refused(self):
        with pytest.raises(BadInput, match="nobody to attack"):
            cells(small(), attacks=["fast"])

    def test_an_attack_sets_what_it_names(self):
        scenario = small(roles=[LEAKING], reconstructions=[self.entry])
        same, other = self.entries(
            scenario,
            ["inverting-gradients:iterations=300:tv=0.01", {"preset": "fast", "labels": "known"}],
        )
        assert (same["iterations"], same["tv"], same["rounds"]) == (300, 0.01, "2")
        assert (other["preset"], other["iterations"]) == ("fast", 7)
        assert other.get("labels", "known") == "known"

    @pytest.mark.parametrize(
        ("attack", "sentence"),
        [
            ("fast:clients=1", "clients cannot be set"),
            ("fast:iteration=3", "iterations"),
            ({"iterations": 3}, "an attack needs a preset"),
        ],
    )
    def test_wrong_settings_of_an_attack_are_refused(self, attack, sentence):
        with pytest.raises(BadInput, match=sentence):
            cells(small(roles=[LEAKING]), attacks=[attack])

    def test_a_misspelt_preset_is_refused(self):
        with pytest.raises(BadInput, match="fast"):
            cells(small(roles=[LEAKING]), attacks=["fats"])


def test_impossible_run_names_its_arm():
    scenario = small(model={"name": "resnet8", "norm": "batch"})
    with pytest.raises(BadInput, match=r"dp-sgd under FedAvg: .*BatchNorm"):
        cells(scenario, ["none", "dp-sgd"])
    with pytest.raises(BadInput, match="noise_multiplyer"):
        cells(small(), ["dp-sgd:noise_multiplyer=1"])


def test_ray_is_replaced_by_processes():
    (found,) = cells(small(engine={"name": "ray", "device": "cpu", "address": "auto"}))
    assert found.scenario.engine.name == "in-process"
    assert found.scenario.engine.device == "cpu"
