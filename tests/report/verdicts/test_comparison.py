"""Verdicts on a comparison name what each defense stops, and what it costs."""

import math

import pandas as pd

from fedlab.report.verdicts.comparison import comparison_verdicts
from tests.report.frames import frame as made
from tests.report.verdicts.test_run import NOT, table

ARMS = {
    "none": {"accuracy": 0.8, "attack_success_rate": 0.9, "epsilon_protected": math.nan,
             "epsilon_total": math.inf, "seconds": 2.0, "leaking": 1},
    "dp-sgd": {"accuracy": 0.7, "attack_success_rate": 0.2, "epsilon_protected": 3.0,
               "epsilon_total": 3.0, "seconds": 5.0, "leaking": 0},
}  # fmt: skip


def frame(rules=("FedAvg",), arms=ARMS, **changes):
    rows = []
    for place, rule in enumerate(rules):
        for defense, facts in arms.items():
            for seed in (0, 1, 2):
                for attack in ("fast, labels known", "fast, labels inferred"):
                    for round in (1, 2):
                        early = {"accuracy": 0.1} if round == 1 else {}
                        own = {"images": 1, "psnr": 40.0, "chance_psnr": 15.0, "above_chance": 25.0}
                        where = {"defense": defense, "rule": rule, "seed": seed, "attack": attack}
                        # Another rule is better only for whoever does not defend itself.
                        better = {"accuracy": 0.8 + place / 10} if defense == "none" else {}
                        when = {"round": round} | early
                        rows.append(where | own | facts | better | when | changes)
    return made(*rows)


def leakage():
    return pd.concat(
        [
            table({"round": r}).assign(grid="", defense="none", rule="FedAvg", seed=s)
            for r in (1, 2)
            for s in (0, 1, 2)
        ]
        + [table(NOT).assign(grid="", defense="dp-sgd", rule="FedAvg", seed=s) for s in (0, 1, 2)]
    )


def test_defenses_are_named_with_their_cost():
    leak, poison, privacy = comparison_verdicts(frame(), leakage())
    assert leak.word == "leaks"
    assert "leak without a defense (6 of 6 images, 29 to 100 %, 40.0 dB)" in leak.sentence
    assert (
        "No leak is shown under dp-sgd (0 of 3 images, 0 to 71 %, 12.0 dB; 100 (0 to 100) "
        "percentage points fewer than undefended; accuracy 0.700, 0.100 lower than undefended)"
        in leak.sentence
    )
    assert "chance is 15.0 dB" in leak.sentence
    assert "diagnostic: labels known" in leak.sentence
    assert "over 3 seeds" in leak.sentence
    assert poison.word == "succeeds"
    assert "succeeds without a defense (0.90; accuracy 0.800)" in poison.sentence
    assert "No success is shown under dp-sgd (0.20; accuracy 0.700" in poison.sentence
    assert privacy.word == "ε 3.00 to ∞"
    assert "at δ = 1e-05: under dp-sgd ε 3.00 for one example" in privacy.sentence
    assert "No total has a bound without a defense" in privacy.sentence


def test_collapsed_network_shows_no_success():
    collapsed = frame(attack_success_rate=1.0, chance_success_rate=1.0)
    _, poison, _ = comparison_verdicts(collapsed, leakage())
    assert poison.word == "not shown"
    assert "No success is shown without a defense (1.00, by chance 1.00)" in poison.sentence


def test_success_is_judged_seed_by_seed():
    # Median rate 0.9 and median chance 0.1 are not of one seed: only one of the three succeeds.
    table = frame(arms={"none": ARMS["none"]})
    table["attack_success_rate"] = table["seed"].map({0: 1.0, 1: 0.9, 2: 0.1})
    table["chance_success_rate"] = table["seed"].map({0: 1.0, 1: 0.05, 2: 0.1})
    _, poison, _ = comparison_verdicts(table, leakage().query("defense == 'none'"))
    assert poison.word == "not shown"


def test_comparison_without_threats_or_epsilon():
    quiet = frame(
        images=0, leaking=0, attack_success_rate=math.nan, epsilon_protected=math.nan,
        epsilon_total=math.inf,
    )  # fmt: skip
    found = comparison_verdicts(quiet, leakage().iloc[:0])
    assert [each.word for each in found] == ["inconclusive", "not shown", "ε ∞"]


def test_payload_mismatch_names_the_run():
    bad = leakage().assign(payload_cosine=1.0)
    bad.loc[(bad["seed"] == 2) & (bad["defense"] == "dp-sgd"), "payload_cosine"] = 0.5
    _, check, *_ = comparison_verdicts(frame(), bad)
    assert check.word == "mismatch"
    assert "round 1 client 0 (cosine 0.500, defense dp-sgd, rule FedAvg, seed 2)" in check.sentence


def test_malicious_server_has_its_own_verdict():
    both = pd.concat([leakage(), leakage().assign(threat="malicious")])
    threats = [each.threat for each in comparison_verdicts(frame(), both)]
    assert threats[:2] == ["Leak", "Leak, malicious server"]


def test_several_rules_are_named():
    _, poison, _ = comparison_verdicts(frame(rules=("FedAvg", "Krum")), leakage())
    assert "without a defense by Krum (0.90; accuracy 0.900)" in poison.sentence
    assert (
        "under dp-sgd by FedAvg (0.20; accuracy 0.700, 0.100 lower than undefended)"
        in poison.sentence
    )
    assert (
        "under dp-sgd by Krum (0.20; accuracy 0.700, 0.200 lower than undefended)"
        in poison.sentence
    )


def test_units_of_epsilon_are_kept_apart():
    noisy = ARMS["dp-sgd"] | {"unit": "client", "epsilon_protected": 7.0, "epsilon_total": 7.0}
    arms = {"dp-sgd": ARMS["dp-sgd"], "clip-noise": noisy}
    *_, privacy = comparison_verdicts(frame(arms=arms), leakage().iloc[:0])
    assert privacy.word == "ε 3.00 of one example; ε 7.00 of one client"
    assert "under clip-noise ε 7.00 for one client" in privacy.sentence


def test_an_undefended_arm_without_a_leak_proves_nothing():
    rows = [
        table(NOT).assign(grid="", defense=d, rule="FedAvg", seed=0) for d in ("none", "dp-sgd")
    ]
    leak, *_ = comparison_verdicts(frame(), pd.concat(rows))
    assert leak.word == "inconclusive"
    assert leak.sentence.startswith(
        "The comparison proves nothing about defenses: without a defense the attack leaks none of "
        "1 image"
    )
    leak, *_ = comparison_verdicts(frame(), rows[0])
    assert leak.word == "not shown"


def test_a_defense_without_power_is_inconclusive():
    weak = table(NOT | {"verdict": "inconclusive", "power": 0.2})
    rows = [leakage(), weak.assign(grid="", defense="mixup", rule="FedAvg", seed=0)]
    arms = ARMS | {"mixup": ARMS["dp-sgd"]}
    leak, *_ = comparison_verdicts(frame(arms=arms), pd.concat(rows))
    assert "Nothing can be concluded under mixup (0 of 1 image, 1 inconclusive" in leak.sentence
    assert "The power of the attack is 0.20" in leak.sentence


def test_many_settings_are_told_together():
    points = [f"batch_size={size}" for size in (1, 2, 4, 8)]
    arms = {"none": ARMS["none"]}
    frames = pd.concat([frame(arms=arms, grid=point) for point in points], ignore_index=True)
    found = pd.concat([leakage().query("defense == 'none'").assign(grid=p) for p in points])
    leak, *_ = comparison_verdicts(frames, found)
    assert (
        "leak without a defense at 4 settings (24 of 24 images, by setting 100 %; the table has "
        "each)" in leak.sentence
    )
    leak, *_ = comparison_verdicts(frames, found[found["grid"] != points[0]])
    assert "leak without a defense at batch_size=2 (6 of 6 images" in leak.sentence


def test_grades_of_many_settings_are_counted():
    points = [f"batch_size={size}" for size in (1, 2, 4, 8)]
    frames = pd.concat([frame(grid=point) for point in points], ignore_index=True)
    unclear = NOT | {"verdict": "inconclusive"}
    rows = [
        table(each).assign(grid=point, defense="dp-sgd", rule="FedAvg", seed=seed)
        for point in points
        for seed, each in enumerate((NOT, unclear))
    ]
    leak, _, privacy = comparison_verdicts(frames, pd.concat(rows))
    assert "under dp-sgd at 4 settings (0 of 8 images, by setting 0 %, 4 inconclusive" in (
        leak.sentence
    )
    assert privacy.sentence.count("under dp-sgd at batch_size") == 4
