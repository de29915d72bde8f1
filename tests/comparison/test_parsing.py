"""Defenses and rules are read from text, tables and objects."""

import pytest

from fedlab import BadInput
from fedlab.comparison.parsing import arm_of, choice, distinct, rule_of
from fedlab.defenses import DEFENSES, Defense
from fedlab.scenario.rules import RULES
from tests.federations import small


@pytest.mark.parametrize(
    ("asked", "label"),
    [
        ("none", "none"),
        ("dp-sgd", "dp-sgd"),
        (" dp-sgd : noise_multiplier = 2 ", "dp-sgd:noise_multiplier=2"),
        (
            "dp-sgd:noise_multiplier=0.5:clipping=per-layer",
            "dp-sgd:noise_multiplier=0.5:clipping=per-layer",
        ),
        ("mixup+pruning:share=0.9", "mixup+pruning:share=0.9"),
        ({"name": "dp-instahide", "k": 2}, "dp-instahide:k=2"),
        ([{"name": "mixup"}, {"name": "pruning"}], "mixup+pruning"),
        ([], "none"),
    ],
)
def test_labels_say_what_differs_from_the_defaults(asked, label):
    assert arm_of(asked).label == label


def test_values_are_read_as_toml_has_them():
    read = choice("dp-sgd:noise_multiplier=2:secure_noise=true:clipping=adaptive").settings
    assert read == {"noise_multiplier": 2, "secure_noise": True, "clipping": "adaptive"}


@pytest.mark.parametrize("value", [1.2345678, 1e-7, 2.0, 100.0])
def test_a_label_can_be_read_again(value):
    arm = arm_of({"name": "dp-sgd", "noise_multiplier": value})
    assert arm_of(arm.label).choices[0].settings == {"noise_multiplier": value}


def test_plus_in_a_number_joins_nothing():
    (one,) = arm_of("dp-sgd:noise_multiplier=1e+2").choices
    assert one.settings == {"noise_multiplier": 100.0}


class TestEntries:
    scheduled = small(
        defenses=[
            {"name": "dp-sgd", "rounds": "2", "clients": "0", "clipping_norm": 0.5},
            {"name": "dp-sgd", "rounds": "3", "clipping_norm": 7.0},
        ]
    )

    def test_scenario_settings_hold_everywhere(self):
        (entry,) = arm_of("dp-sgd").entries(self.scheduled)
        assert entry == {"name": "dp-sgd", "rounds": "all", "clients": "all", "clipping_norm": 0.5}

    def test_given_settings_win_over_the_scenario(self):
        (entry,) = arm_of("dp-sgd:clipping_norm=2.0").entries(self.scheduled)
        assert entry["clipping_norm"] == 2.0

    def test_other_defenses_have_their_own_defaults(self):
        changed = self.scheduled.changed(defenses=arm_of("mixup+pruning").entries(self.scheduled))
        assert [entry.name for entry in changed.defenses] == ["mixup", "pruning"]

    def test_open_arm_has_no_entries(self):
        assert arm_of("none").entries(self.scheduled) == []


class Mine(Defense):
    """Sends part of the update."""

    factor: float = 0.5

    def wrap(self, pipeline, context):
        return pipeline


MINE = "tests.comparison.test_parsing:Mine"


class TestForeign:
    @pytest.mark.parametrize(
        ("text", "name", "settings"),
        [
            (MINE, MINE, {}),
            (f"{MINE}:factor=0.2", MINE, {"factor": 0.2}),
            (f" {MINE} : factor = 0.2", MINE, {"factor": 0.2}),
            ("mine:Mine", "mine:Mine", {}),
            ("mine:Mine:rate=1:size=2", "mine:Mine", {"rate": 1, "size": 2}),
        ],
    )
    def test_import_path_is_one_name(self, text, name, settings):
        assert choice(text) == choice(text, DEFENSES)
        assert (choice(text).name, choice(text).settings) == (name, settings)

    def test_rule_of_a_module_is_read(self):
        found = rule_of("mine.rules:Median:beta=0.2")
        assert (found.name, found.settings) == ("mine.rules:Median", {"beta": 0.2})

    def test_rule_may_be_a_class_or_a_table(self):
        assert rule_of(RULES.get("FedMedian")) == rule_of("FedMedian")
        table = {"name": "FedTrimmedAvg", "beta": 0.2}
        assert rule_of(table) == rule_of("FedTrimmedAvg:beta=0.2")
        assert rule_of(Mine).name == MINE

    @pytest.mark.parametrize(
        ("asked", "label"),
        [
            (f"{MINE}:factor=0.2", f"{MINE}:factor=0.2"),
            (f"mixup+{MINE}+pruning", f"mixup+{MINE}+pruning"),
            (Mine(), MINE),
            (Mine(factor=0.2), f"{MINE}:factor=0.2"),
            ([Mine(factor=0.2), "mixup"], f"{MINE}:factor=0.2+mixup"),
            (DEFENSES.get("dp-sgd")(noise_multiplier=2.0), "dp-sgd:noise_multiplier=2"),
        ],
    )
    def test_text_and_object_have_one_label(self, asked, label):
        assert arm_of(asked).label == label
        assert arm_of(label).label == label

    def test_object_keeps_its_defaults(self):
        scenario = small(defenses=[{"name": "dp-sgd", "noise_multiplier": 3.0}])
        defense = DEFENSES.get("dp-sgd")()
        for asked, noise in (("dp-sgd", 3.0), (defense, 1.0)):
            (entry,) = scenario.changed(defenses=arm_of(asked).entries(scenario)).defenses
            assert entry.noise_multiplier == noise

    def test_object_runs_in_a_scenario(self):
        entries = arm_of(Mine(factor=0.25)).entries(small())
        (entry,) = small(defenses=entries).defenses
        assert entry == Mine(factor=0.25)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("no.such.module:Mine", "cannot be imported: ModuleNotFoundError"),
        ("tests.federations:small", "is no subclass of"),
        (3, "is no defense: give a text"),
        (Mine(rounds="2"), "stands on all rounds"),
        ("dp-sdg", "did you mean.*dp-sgd"),
        ("dp-sgd:noise", "NAME:SETTING=VALUE"),
        ("dp-sgd:=2", "NAME:SETTING=VALUE"),
        ("dp-sgd:rounds=2", "stands on all rounds"),
        ("dp-sgd:noise_multiplier=2:noise_multiplier=3", "sets noise_multiplier twice"),
        ("dp-sgd(noise_multiplier=2)", "must be written as NAME:SETTING=VALUE"),
        ({"k": 2}, "needs a name"),
        ("none+mixup", "combined with nothing"),
    ],
)
def test_impossible_choices_are_refused(asked, sentence):
    with pytest.raises(BadInput, match=sentence):
        arm_of(asked)


def test_equal_labels_are_refused():
    assert distinct("seeds", ["1", "2"]) == ("1", "2")
    with pytest.raises(BadInput, match=r'"a" is twice among the defenses .* a:SETTING=VALUE'):
        distinct("defenses", ["a", "b", "a"])
    with pytest.raises(BadInput, match="at least one"):
        distinct("defenses", [])
