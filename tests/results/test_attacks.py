"""Labels of attacks, and the choice of the strongest one."""

import math

import pandas as pd

from fedlab.results.attacks import attack_labels, best_of_each, strongest_label

USUAL = {
    "round": 1,
    "client": 0,
    "image": 0,
    "target": "original",
    "preset": "fast",
    "known_labels": True,
    "threat": "honest-but-curious",
    "psnr": 20.0,
    "chance_psnr": 15.0,
    "verdict": "not shown",
}


def table(*rows):
    return pd.DataFrame([USUAL | row for row in rows])


def test_label_names_knowledge_and_server():
    rows = table({}, {"known_labels": False}, {"preset": "imprint", "threat": "malicious"})
    assert list(attack_labels(rows)) == [
        "fast, labels known",
        "fast, labels inferred",
        "imprint, labels known, malicious server",
    ]


def test_tables_without_rows_and_of_earlier_versions():
    assert list(attack_labels(table({}).drop(columns="threat"))) == ["fast, labels known"]
    assert attack_labels(table({}).iloc[:0]).empty
    assert best_of_each(table({}).iloc[:0]).empty


def test_better_of_two_results_stays():
    rows = table(
        {"psnr": math.nan},
        {"psnr": 12.0, "verdict": "leaks"},
        {"psnr": 30.0},
        {"image": 1, "psnr": 5.0},
        {"image": 1, "psnr": 6.0},
        {"image": 1, "psnr": math.nan},
        {"image": 1, "known_labels": False, "psnr": 1.0},
        {"image": 2, "target": "mixed"},
    )
    assert best_of_each(rows)["psnr"].tolist() == [12.0, 6.0, 1.0]
    seeds = pd.concat([table({}).assign(seed=seed) for seed in (0, 1)])
    assert len(best_of_each(seeds)) == 2


def test_the_strongest_leaks_the_largest_share():
    many = [{"image": n, "psnr": 90.0, "verdict": "leaks" if n else "not shown"} for n in range(4)]
    one = {"preset": "slow", "psnr": 19.0, "verdict": "leaks"}
    assert strongest_label(table(*many, one)) == "slow, labels known"
    # The same attack on the same images again neither adds to the share nor takes from it.
    assert strongest_label(table(*many, one, one | {"verdict": "not shown"})).startswith("slow")


def test_ties_go_to_psnr_above_chance_then_labels():
    far = {"preset": "slow", "psnr": 21.0, "chance_psnr": 1.0}
    assert strongest_label(table({"psnr": 30.0}, far)) == "slow, labels known"
    assert strongest_label(table({"psnr": math.nan}, far)) == "slow, labels known"
    assert strongest_label(table({}, {"known_labels": False, "psnr": 20.2})).endswith("inferred")
    assert strongest_label(table({}, {"known_labels": False, "psnr": 19.8})).endswith("inferred")
    assert strongest_label(table({}, {"known_labels": False, "psnr": 15.8})).endswith("known")
