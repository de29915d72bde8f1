"""A comparison varies any setting of a scenario, beside defenses, rules and seeds."""

import json

import pytest

from fedlab import BadInput, Comparison, compare
from fedlab.comparison.parsing import arm_of
from fedlab.comparison.run_grid import cells_of
from fedlab.comparison.sweep import grid_text, points_of, read_sweep
from fedlab.results.folder import RunFolder
from tests.federations import small

LEAK = {"role": "leaking", "clients": "0", "batch_size": 2}


def cells(sweep, defenses=("none",), **tables):
    arms = [arm_of(each) for each in defenses]
    scenario = small(**tables)
    return cells_of(scenario, arms, attacks=None, seeds=[0], rules=None, sweep=sweep)


def test_all_combinations_run():
    sweep = {"training.lr": [0.01, 0.1], "roles.leaking.batch_size": [1, 4, 16]}
    found = cells(sweep, roles=[LEAK])
    made = [(c.scenario.training.lr, c.scenario.roles[0].batch_size) for c in found]
    assert made == [(lr, size) for lr in (0.01, 0.1) for size in (1, 4, 16)]
    assert len({cell.name for cell in found}) == 6
    assert found[0].name == "none-FedAvg-lr=0.01-batch_size=1-seed-0"


def test_a_setting_of_a_defense_leaves_the_others_alone():
    sweep = {"defenses.dp-sgd.noise_multiplier": [0.5, 2.0]}
    found = cells(sweep, ["none", "dp-sgd:clipping_norm=0.7"])
    assert [cell.defense for cell in found] == ["none"] + ["dp-sgd:clipping_norm=0.7"] * 2
    assert [cell.point.label for cell in found] == [
        "",
        "noise_multiplier=0.5",
        "noise_multiplier=2",
    ]
    one, other = (cell.scenario.defenses[0] for cell in found[1:])
    assert (one.noise_multiplier, other.noise_multiplier) == (0.5, 2.0)
    assert one.clipping_norm == other.clipping_norm == 0.7


@pytest.mark.parametrize(
    ("sweep", "sentence"),
    [
        ({"training.lr": []}, "at least one of its values of training.lr"),
        ({"training.lr": [0.1, 0.1]}, "twice among the values of training.lr"),
        ({"training.lr": "0.1"}, "are a list"),
        ({"training.lrr": [0.1]}, "lrr"),
        ({"training.lr": [-1.0]}, "none under FedAvg at lr=-1: training.lr"),
        ({"nothing.at.all": [1]}, "nothing"),
        ({"seed": [1, 2]}, "by seeds, and not by the grid"),
        ({"defenses.dp-sgd.noise_multiplier": [1]}, "none of the defenses that are compared"),
        ({"defenses.noise_multiplier": [1]}, "defenses.NAME.SETTING"),
    ],
)
def test_impossible_sweeps_are_refused(sweep, sentence):
    with pytest.raises(BadInput, match=sentence):
        cells(sweep)


def test_values_on_a_command_line_are_toml_or_words():
    read = read_sweep(["training.lr=0.01,1e-1", "model.name=lenet,mlp", 'a.b="0,1","2"'])
    assert read == {
        "training.lr": [0.01, 0.1],
        "model.name": ["lenet", "mlp"],
        "a.b": ["0,1", "2"],
    }
    for path, values in read.items():
        assert read_sweep([f"{path}={grid_text(values)}"]) == {path: values}
    for text in ("training.lr", "training.lr=", "=1"):
        with pytest.raises(BadInput, match="sweeps nothing"):
            read_sweep([text])
    with pytest.raises(BadInput, match="twice"):
        read_sweep(["a.b=1", "a.b=2"])


def test_labels_tell_settings_apart():
    (point,) = points_of({"training.batch_size": [8], "roles.0.batch_size": [2]}, [])
    assert point.label == "training.batch_size=8 0.batch_size=2"
    assert points_of({}, [])[0].label == ""


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("swept")
    scenario = small(
        rounds=1, roles=[LEAK], reconstructions=[{"clients": "0", "preset": "analytic"}]
    )
    grid = {"training.lr": [0.05, 0.1], "defenses.clip-noise.noise_multiplier": [0.5, 2.0]}
    return compare(scenario, ["none", "clip-noise"], seeds=1, grid=grid, out=folder, processes=1)


def test_tables_have_a_column_for_each_setting(swept):
    assert swept.sweep == {
        "training.lr": [0.05, 0.1],
        "defenses.clip-noise.noise_multiplier": [0.5, 2.0],
    }
    assert len(swept.points) == 6  # no defense does not depend on the noise
    summary = swept.summary
    assert summary["defense"].tolist() == ["none"] * 2 + ["clip-noise"] * 4
    assert summary["grid.training.lr"].tolist() == [0.05, 0.1, 0.05, 0.05, 0.1, 0.1]
    noise = "grid.defenses.clip-noise.noise_multiplier"
    assert summary[noise].isna().tolist() == [True] * 2 + [False] * 4
    clipped = summary[summary["defense"] == "clip-noise"]
    assert clipped["epsilon_total"].nunique() == 2  # follows the noise alone
    assert summary["epsilon_total"].nunique() == 3


def test_defenses_stand_beside_none_at_the_same_settings(swept):
    summary = swept.summary
    alone = summary.set_index(["defense", "grid"])
    for _, line in summary[summary["defense"] == "clip-noise"].iterrows():
        base = alone.loc[("none", f"lr={line['grid.training.lr']}")]
        assert line["accuracy_change"] == pytest.approx(line["accuracy"] - base["accuracy"])
        fewer = base["leaking"] / base["images"] - line["leaking"] / line["images"]
        assert line["fewer_leaks"] == pytest.approx(fewer)


def test_every_run_counts_once(swept):
    assert len({run.folder.path.name for run in swept.runs}) == len(swept.runs) == 6
    assert len([each for each in (swept.folder / "runs").iterdir() if each.is_dir()]) == 6
    for run in swept.runs:
        lr = RunFolder.open(run.folder.path).scenario.training.lr
        assert lr == run.point["training.lr"]


def test_a_folder_that_lists_no_sweep_has_the_values_of_its_runs(swept):
    file = swept.folder / "comparison.json"
    text = file.read_text()
    try:
        facts = json.loads(text)
        del facts["sweep"]
        file.write_text(json.dumps(facts))
        again = Comparison.open(swept.folder)
    finally:
        file.write_text(text)
    assert again.summary["accuracy_change"].tolist() == pytest.approx(
        swept.summary["accuracy_change"].tolist(), nan_ok=True
    )


def test_a_sweep_can_be_opened_again(swept):
    again = Comparison.open(swept.folder)
    assert again.sweep == swept.sweep
    assert again.frame.equals(swept.frame)
    page = again.report(swept.folder / "page.html").read_text()
    assert "--grid training.lr=0.05,0.1" in page
    assert "Swept setting" in page
    assert "figure-sweep" in page
