"""The tidy table agrees with the run folders."""

import math

import pytest

from fedlab import compare
from fedlab.comparison.frame import COLUMNS
from tests.federations import PLAIN, small

INFERRED, KNOWN = "fast, labels inferred", "fast, labels known"

SCENARIO = small("rounds=2").changed(
    metrics=["tests.foreign_attacks:l1"],
    roles=[
        {"role": "leaking", "clients": "0", "batch_size": 2},
        {"role": "poisoning", "clients": "3", "data": {"attack": "badnets", "target": 0}},
    ],
    reconstructions=[
        PLAIN
        | {"clients": "0", "preset": "fast", "iterations": 20, "labels": labels, "rounds": rounds}
        for labels, rounds in (("known", "all"), ("inferred", "2"))
    ],
)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return compare(
        SCENARIO, ["none", "dp-sgd"], seeds=[5, 6], out=tmp_path_factory.mktemp("c"), processes=1
    )


def test_frame_has_a_row_per_combination(found):
    table = found.frame
    assert list(table.columns) == [*COLUMNS, "l1"]
    keys = ["defense", "rule", "seed", "attack", "round", "client"]
    assert len(table) == len(table.drop_duplicates(keys)) == 2 * 1 * 2 * 2 * 2 * 4
    assert set(table["attack"]) == {INFERRED, KNOWN} == set(found.attacks)
    assert set(table["scenario"]) == {"small"}


def test_scores_are_medians_over_attacked_images(found):
    for run in found.runs:
        leakage = run.folder.table("leakage")
        for (round, known), images in leakage.groupby(["round", "known_labels"]):
            where = {
                "defense": run.defense, "seed": run.seed, "round": round, "client": 0,
                "attack": KNOWN if known else INFERRED,
            }  # fmt: skip
            (row,) = one(found, **where)
            assert row["images"] == len(images) == 2
            assert row["leaking"] == (images["verdict"] == "leaks").sum()
            assert row["psnr"] == pytest.approx(images["aligned_psnr"].mean())  # of two
            assert row["above_chance"] == pytest.approx(
                (images["aligned_psnr"] - images["chance_psnr"]).mean()
            )


def one(found, **where):
    table = found.frame
    for column, value in where.items():
        table = table[table[column] == value]
    return table.to_dict("records")


def test_client_that_was_not_attacked_has_no_scores(found):
    table = found.frame
    spared = table[(table["client"] != 0) | ((table["attack"] == INFERRED) & (table["round"] == 1))]
    assert len(spared) == len(table) - 2 * 2 * 3
    assert (spared["images"] == 0).all()
    assert spared["psnr"].isna().all()


def test_model_scores_repeat_for_each_client(found):
    for run in found.runs:
        for row in run.folder.rounds()[1:]:
            rows = one(found, defense=run.defense, seed=run.seed, round=row.round)
            assert {each["accuracy"] for each in rows} == {row.accuracy}
            assert {each["attack_success_rate"] for each in rows} == {row.attack_success_rate}


def test_epsilons_are_those_of_the_ledger(found):
    for run in found.runs:
        ledger = run.folder.ledger()
        for row in one(found, defense=run.defense, seed=run.seed, round=2):
            assert row["epsilon_total"] == pytest.approx(ledger.total(row["client"]))
            protected = ledger.protected(row["client"])
            assert (
                math.isnan(row["epsilon_protected"])
                if protected is None
                else row["epsilon_protected"] == pytest.approx(protected)
            )
    assert {row["epsilon_total"] for row in one(found, defense="none")} == {math.inf}


def test_leakage_has_every_image(found):
    assert len(found.leakage) == sum(len(run.folder.table("leakage")) for run in found.runs)
    assert list(found.leakage.columns[:5]) == ["defense", "rule", "grid", "seed", "attack"]


def test_frame_without_attacks_has_a_row_per_client(tmp_path):
    quiet = compare(small("rounds=1"), ["none"], seeds=1, out=tmp_path / "quiet", processes=1)
    assert quiet.attacks == ()
    assert quiet.frame["attack"].tolist() == [""] * 4
    assert quiet.frame["attack_success_rate"].isna().all()
    assert quiet.summary["images"].tolist() == [0]


def test_a_foreign_metric_is_summarised(found):
    row = found.summary[found.summary["defense"] == "none"].iloc[0]
    assert row["l1_min"] <= row["l1"] <= row["l1_max"]
    own = found.frame[found.frame["defense"] == "none"].dropna(subset=["l1"])
    assert own["l1"].min() <= row["l1_min"]
    assert (own["images"] > 0).all()
