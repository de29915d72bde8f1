"""A line of the summary says what the rows under it say."""

import math

import pytest

from fedlab.comparison.summary import per_seed, summary_of
from tests.report.frames import frame

SAFE = {"epsilon_round": 1.0, "epsilon_protected": 2.0, "epsilon_total": 2.0}


def attacked(above, **values):
    given = {"images": 2, "leaking": int(above > 3) * 2, "psnr": 15 + above, "chance_psnr": 15.0}
    return {"client": 1, "role": "leaking", "above_chance": above} | given | values


def test_accuracy_and_success_are_of_the_last_round():
    table = per_seed(
        frame(
            {"round": 1, "accuracy": 0.9, "attack_success_rate": 0.8},
            {"round": 2, "accuracy": 0.6, "attack_success_rate": 0.1},
        )
    )
    assert table[["accuracy", "attack_success_rate"]].values.tolist() == [[0.6, 0.1]]


def test_the_strongest_attack_is_told():
    table = per_seed(
        frame(
            attacked(2.0, attack="weak"),
            attacked(9.0, attack="weak", round=2),
            attacked(5.0, attack="strong"),
            attacked(8.0, attack="strong", round=2),
        )
    )
    assert table["attack"].tolist() == ["strong"]
    assert table["above_chance"].tolist() == [6.5]
    assert table[["leaking", "images"]].values.tolist() == [[4, 4]]


def test_each_arm_has_its_own_strongest_attack():
    rows = [
        attacked(above, defense=defense, attack=attack)
        for defense, attack, above in [
            ("none", "a", 9.0), ("none", "b", 1.0), ("dp-sgd", "a", -8.0), ("dp-sgd", "b", -2.0),
        ]
    ]  # fmt: skip
    table = per_seed(frame(*rows)).set_index("defense")
    assert table["attack"].to_dict() == {"none": "a", "dp-sgd": "b"}


def test_seeds_are_joined_by_median_with_their_range():
    table = summary_of(
        frame(
            *(
                attacked(above, seed=seed, accuracy=above / 10)
                for seed, above in enumerate((1.0, 5.0, 2.0))
            )
        )
    )
    line = table.iloc[0]
    assert line["seeds"] == 3
    assert line[["accuracy", "accuracy_min", "accuracy_max"]].tolist() == [0.2, 0.1, 0.5]
    assert line[["above_chance", "above_chance_min", "above_chance_max"]].tolist() == [2, 1, 5]
    assert (line["leaking"], line["images"]) == (2, 6)


def test_leaks_count_before_the_median():
    rows = [
        attacked(2.0, attack="blurred", leaking=0),
        attacked(-1.0, attack="sharp", leaking=1),
    ]
    line = per_seed(frame(*rows)).iloc[0]
    assert (line["attack"], line["leaking"], line["images"]) == ("sharp", 1, 2)


def test_malicious_and_curious_are_kept_apart():
    trapped = attacked(50.0, attack="imprint, malicious server", threat="malicious")
    assert per_seed(frame(trapped, attacked(1.0, attack="fast")))["attack"].tolist() == ["fast"]
    assert per_seed(frame(trapped))["attack"].tolist() == ["imprint, malicious server"]


class TestEpsilon:
    def told(self, *rows):
        line = per_seed(frame(*rows)).iloc[0]
        return line["epsilon_protected"], line["epsilon_total"]

    def test_it_is_the_largest_over_honest_clients(self):
        low = {"client": 0, **SAFE}
        high = {"client": 1, **SAFE, "epsilon_total": 3.0, "epsilon_protected": 3.0}
        leaking = {"client": 2, "role": "leaking", **SAFE, "epsilon_total": 99.0}
        assert self.told(low, high, leaking) == (3.0, 3.0)

    def test_once_malicious_client_is_not_honest(self):
        once = {"client": 1, **SAFE, "epsilon_total": 99.0}
        assert self.told(SAFE, once, once | {"round": 2, "role": "poisoning"}) == (2.0, 2.0)

    def test_where_nobody_is_honest_it_is_of_all(self):
        assert self.told({"role": "leaking", **SAFE}) == (2.0, 2.0)

    def test_open_rounds_leave_that_of_protected_ones(self):
        assert self.told(SAFE, {**SAFE, "round": 2, "epsilon_total": math.inf}) == (2.0, math.inf)

    def test_what_was_spent_stays_when_a_client_declines(self):
        nothing = dict.fromkeys(SAFE, math.nan)
        assert self.told(SAFE, {**nothing, "round": 2, "status": "budget"}) == (2.0, 2.0)

    def test_nobody_was_protected(self):
        protected, total = self.told({})
        assert math.isnan(protected)
        assert total == math.inf

    def test_that_of_attacked_clients_stands_apart(self):
        other = attacked(1.0, epsilon_total=9.0, epsilon_protected=9.0)
        line = per_seed(frame(SAFE, other)).iloc[0]
        assert (line["epsilon_total"], line["attacked_epsilon_total"]) == (2.0, 9.0)

    def test_it_says_what_it_hides(self):
        line = per_seed(frame({**SAFE, "unit": "client", "delta": 1e-4})).iloc[0]
        assert (line["unit"], line["delta"]) == ("client", 1e-4)
        assert per_seed(frame({})).iloc[0]["unit"] is None


def test_time_is_of_all_rounds():
    rows = [{"round": 1, "seconds": 2.0}, {"round": 1, "client": 1, "seconds": 2.0}]
    assert per_seed(frame(*rows, {"round": 2, "seconds": 3.0}))["seconds"].tolist() == [5.0]


def test_arms_stay_in_the_order_asked_for():
    rows = [{"defense": defense} for defense in ("pruning", "none", "mixup")]
    assert summary_of(frame(*rows))["defense"].tolist() == ["pruning", "none", "mixup"]


def test_leaking_shares_have_paired_intervals():
    rows = [
        attacked(9.0 if defense == "none" else -5.0, defense=defense, seed=seed, client=client)
        for defense in ("none", "dp-sgd")
        for seed in range(5)
        for client in (0, 1)
    ]
    table = summary_of(frame(*rows)).set_index("defense")
    assert table["clusters"].tolist() == [10, 10]
    assert table.loc["dp-sgd", "leaking_high"] == pytest.approx(1 - 0.025**0.1)
    assert table.loc["dp-sgd", "fewer_leaks"] == 1.0
    assert 0.5 < table.loc["dp-sgd", "fewer_leaks_low"] < 0.8
    assert math.isnan(table.loc["none", "fewer_leaks"])


def test_arms_are_paired_by_seed_and_client():
    rows = [
        attacked(9.0, seed=seed, leaking=seed % 2, defense=defense)
        for defense in ("none", "mixup")
        for seed in range(8)
    ]
    rows.append(attacked(9.0, seed=9, defense="none"))  # a seed whose other run failed
    line = summary_of(frame(*rows)).set_index("defense").loc["mixup"]
    assert line["fewer_leaks"] == 0.0
    assert line["fewer_leaks_high"] < 0.15  # the same images leak; unpaired it is 0.3


def test_arms_without_an_attack_have_no_interval():
    line = summary_of(frame({})).iloc[0]
    assert line["clusters"] == 0
    assert math.isnan(line["leaking_low"])
