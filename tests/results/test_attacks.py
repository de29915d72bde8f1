"""Labels of attacks, and the choice of the strongest one."""

import math

import pandas as pd

from fedlab.results.attacks import (
    attack_labels,
    best_of_each,
    counted_images,
    empty_updates,
    scored_images,
    skip_reasons,
    strongest_label,
)

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


SKIPPED = {"psnr": math.nan, "verdict": "inconclusive", "skipped": "too many images"}


def counts(*rows):
    found = counted_images(scored_images(table(*rows)))
    return found.images, found.leaking, found.recognisable, found.inconclusive, found.skipped


def test_an_image_counts_once_under_its_best_grade():
    rows = (
        {"verdict": "not shown"},
        {"verdict": "leaks", "preset": "slow"},
        {"image": 1, "verdict": "inconclusive"},
        {"image": 1, "verdict": "recognisable", "preset": "slow"},
        {"image": 2, "verdict": "inconclusive"},
    )
    assert counts(*rows) == (3, 1, 1, 1, 0)


def test_skipped_images_are_in_the_denominator():
    assert counts({"verdict": "leaks"}, SKIPPED | {"image": 1}) == (2, 1, 0, 1, 1)


def test_an_image_that_another_attack_reached_is_not_skipped():
    rows = (SKIPPED, {"preset": "slow"}, SKIPPED | {"image": 1})
    assert counts(*rows) == (2, 0, 0, 1, 1)
    assert skip_reasons(table(*rows)) == {"too many images": 1}


def test_updates_without_an_image_are_counted():
    empty = SKIPPED | {"target": "none", "image": -1, "round": 2}
    rows = table({}, {"image": 1}, empty, empty | {"preset": "slow"})
    assert empty_updates(rows) == (1, 2)
    assert counts(*rows.to_dict("records")) == (2, 0, 0, 0, 0)


def test_the_interval_knows_clients_and_seeds():
    rows = [
        {"client": client, "image": image, "verdict": "leaks" if client < 2 else "not shown"}
        for client in range(4)
        for image in range(25)
    ]
    one = counted_images(scored_images(table(*rows)))
    seeds = [table(*rows).assign(seed=seed, rule="FedAvg") for seed in range(5)]
    five = counted_images(scored_images(pd.concat(seeds)))
    assert (one.clusters, five.clusters) == (4, 20)
    assert one.high - one.low > 0.8  # a hundred images of four clients say little
    assert five.high - five.low < 0.6


def test_rules_do_not_multiply_the_clients():
    rules = pd.concat([table({}, {"client": 1}).assign(seed=0, rule=rule) for rule in "ab"])
    assert counted_images(scored_images(rules)).clusters == 2
