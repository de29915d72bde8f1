"""Verdicts on a run follow stated rules and give counts, numbers, units and circumstances."""

import dataclasses
import math

import pandas as pd
import pytest

from fedlab.metrics.images import PSNR_CAP
from fedlab.privacy.accounts import CLIENT
from fedlab.privacy.ledger import Ledger
from fedlab.privacy.release import PrivacyRelease
from fedlab.report.tables.numbers import MOST_DECIBELS, number
from fedlab.report.verdicts.run import (
    leak_verdicts,
    mismatch_sentence,
    poison_verdict,
    privacy_verdict,
)
from fedlab.results.rows import LeakageRow, RoundRow
from fedlab.scenario.scenario import Scenario
from tests.report.tables.test_ledger import LEDGER, entry, noisy, private

ROW = LeakageRow(
    round=1, client=0, role="leaking", defenses="none", preset="fast", image=0, target="original",
    psnr=40.0, ssim=1.0, ms_ssim=1.0, registered_psnr=40.0, feature_distance=0.0, chance_psnr=15.0,
    chance_grey=15.0, chance_class_mean=15.0, chance_nearest=15.0, iip=1.0, pool=5,
    identification=1.0, label_correct=True, label_accuracy=1.0, known_labels=True,
    setting="diagnostic", verdict="leaks", objective="cosine", tv=0.0, iterations=1, seconds=1.0,
    payload_cosine=1.0, signal_cosine=1.0, reasons="labels known, single gradient step",
)  # fmt: skip
NOT = {"verdict": "not shown", "psnr": 12.0}


def table(*changes):
    return pd.DataFrame([dataclasses.asdict(dataclasses.replace(ROW, **each)) for each in changes])


def test_image_attacked_twice_counts_once():
    (found,) = leak_verdicts(table({}, {"known_labels": False, **NOT}, {"image": 1, **NOT}))
    assert found.word == "leaks"
    assert "1 of 2 images leak" in found.sentence
    assert (
        "The strongest attack is fast, labels known. It leaks 1 of 2 images with a median PSNR of "
        "40.0 dB, where chance is 15.0 dB." in found.sentence
    )


def test_defenses_without_leak_are_named_with_counts():
    (found,) = leak_verdicts(table({}, {"round": 2, "defenses": "dp-sgd", **NOT}))
    assert "without a defense (1 of 1). No leak is shown under dp-sgd (0 of 1)." in found.sentence


def test_not_shown_is_never_safe():
    (found,) = leak_verdicts(table(NOT, {"image": 1, **NOT}))
    assert found.word == "not shown"
    assert "No leak is shown for 2 images" in found.sentence
    assert "12.0 dB, where chance is 15.0 dB (n = 2)." in found.sentence
    assert "another attack may do better" in found.sentence


def test_setting_and_reasons_are_named():
    (found,) = leak_verdicts(table({}, {"image": 1, "reasons": "labels known"}))
    assert "is diagnostic: labels known, single gradient step in 1 of 2." in found.sentence
    realistic = {"setting": "realistic", "reasons": "", "known_labels": False}
    (found,) = leak_verdicts(table(realistic))
    assert found.sentence.endswith("The setting is realistic.")


def test_realistic_attacks_are_counted_apart():
    (found,) = leak_verdicts(table({}, {"image": 1, "setting": "realistic", "reasons": "", **NOT}))
    assert "In the realistic setting 0 of 1 leak." in found.sentence


def test_malicious_server_has_its_own_verdict():
    curious, malicious = leak_verdicts(table(NOT, {"threat": "malicious"}))
    assert (curious.threat, curious.word) == ("Leak", "not shown")
    assert (malicious.threat, malicious.word) == ("Leak, malicious server", "leaks")


def test_image_without_reconstruction_has_no_psnr():
    (found,) = leak_verdicts(table({"psnr": math.nan, "verdict": "not shown"}))
    assert "PSNR of -, where chance" in found.sentence


def test_mixed_targets_do_not_count():
    (found,) = leak_verdicts(table({"target": "mixed"}))
    assert found.word == "inconclusive"
    assert "attacked no update" in found.sentence


def test_empty_and_old_tables_are_read():
    assert leak_verdicts(table({}).iloc[:0])[0].word == "inconclusive"
    (found,) = leak_verdicts(table({}).drop(columns=["threat", "reasons"]))
    assert found.word == "leaks"


SKIPPED = {"psnr": math.nan, "verdict": "inconclusive", "skipped": "the update holds 80 images"}


def test_images_that_were_not_attacked_are_counted():
    (found,) = leak_verdicts(table({}, SKIPPED | {"client": 1}, SKIPPED | {"client": 2}))
    assert "1 of 3 images leak" in found.sentence
    assert "2 inconclusive (2 not attacked)" in found.sentence
    assert "2 images were not attacked: the update holds 80 images (2)." in found.sentence


def test_nothing_is_concluded_if_no_image_was_attacked():
    (found,) = leak_verdicts(table(SKIPPED))
    assert found.word == "inconclusive"
    assert "could attack none of 1 image." in found.sentence


def test_updates_without_images_are_counted():
    empty = SKIPPED | {"image": -1, "target": "none", "round": 2}
    (found,) = leak_verdicts(table({}, empty))
    assert "1 of 2 attacked updates held no image." in found.sentence
    (alone,) = leak_verdicts(table(empty))
    assert alone.word == "inconclusive"
    assert alone.sentence == "1 of 1 attacked update held no image."


def test_power_stands_beside_the_result():
    (found,) = leak_verdicts(table({"power": 0.9}))
    assert "The power of the attack is 0.90" in found.sentence
    assert "inconclusive" not in found.sentence


def test_an_attack_without_power_is_inconclusive_and_says_why():
    (found,) = leak_verdicts(table(NOT | {"verdict": "inconclusive", "power": 0.25}))
    assert found.word == "inconclusive"
    assert "Nothing can be concluded about 1 image" in found.sentence
    assert "power of the attack is 0.25" in found.sentence
    assert "below 0.5 an image that does not leak is inconclusive" in found.sentence


def test_recognisable_is_a_grade_of_its_own():
    (found,) = leak_verdicts(table(NOT | {"verdict": "recognisable"}, {"image": 1, **NOT}))
    assert found.word == "recognisable"
    assert "No leak by PSNR is shown for 2 images, 1 recognisable" in found.sentence


def test_the_share_has_an_interval_over_clients():
    rows = [{"client": client, "image": image} for client in range(3) for image in range(2)]
    (found,) = leak_verdicts(table(*rows))
    assert "100%, with a 95 % interval of 29 to 100 % over 3 clients" in found.sentence
    (one,) = leak_verdicts(table({}))
    assert "All images are of one client" in one.sentence


def test_the_choice_of_the_attack_is_named():
    (found,) = leak_verdicts(table({"choice": "tv 0.001"}))
    assert "on simulated clients that run the same defense: tv 0.001." in found.sentence


def test_payload_mismatch_names_round_client_and_cosine():
    bad = {"round": 3, "client": 7, "payload_cosine": 0.8712}
    leak, check = leak_verdicts(table({}, bad, {**bad, "image": 1}))
    assert (leak.word, check.word) == ("leaks", "mismatch")
    assert check.sentence.count("round 3 client 7 (cosine 0.871)") == 1
    assert "round 1" not in check.sentence


@pytest.mark.parametrize("cosine", [1.0, 0.9991, math.nan, None])
def test_agreeing_or_unknown_replay_is_not_named(cosine):
    # Noise of the operating system cannot be drawn again, and leaves the cosine empty.
    assert mismatch_sentence(table({"payload_cosine": cosine, "defenses": "dp-sgd"})) == ""
    assert mismatch_sentence(table({}).drop(columns="payload_cosine")) == ""


def rounds(*rates, accuracy=0.8):
    return [
        RoundRow(round=n, accuracy=accuracy, loss=1.0, attack_success_rate=rate, seconds=1.0)
        for n, rate in enumerate(rates)
    ]


POISONED = Scenario(
    rounds=3,
    data={"clients": 4},
    roles=[{"role": "poisoning", "clients": "2-3", "data": {"attack": "badnets"}}],
)


@pytest.mark.parametrize(
    ("last", "word"), [(0.5, "succeeds"), (0.49, "not shown"), (1.0, "succeeds")]
)
def test_poisoning_succeeds_from_one_half_on(last, word):
    found = poison_verdict(POISONED, rounds(0.1, 0.95, last))
    assert found.word == word
    assert "badnets by 2 of 4 clients in rounds 1-3" in found.sentence
    assert f"After round 2 the attack success rate is {last:.2f}" in found.sentence
    assert "0.10 before round 1" in found.sentence
    assert "seed 0" in found.sentence


@pytest.mark.parametrize(
    ("rate", "chance", "word"),
    [(0.9, 0.05, "succeeds"), (0.9, 0.85, "not shown"), (1.0, 1.0, "not shown")],
)
def test_success_by_chance_is_not_shown(rate, chance, word):
    *before, last = rounds(0.1, 0.2, rate)
    found = poison_verdict(
        POISONED, [*before, dataclasses.replace(last, chance_success_rate=chance)]
    )
    assert found.word == word
    assert f"is {rate:.2f}, where chance is {chance:.2f}; it was highest" in found.sentence


def test_unknown_chance_is_stated():
    sentence = poison_verdict(POISONED, rounds(0.9)).sentence
    assert "is 0.90, where chance is not known; it was highest" in sentence


def test_untargeted_poisoning_has_no_rate():
    found = poison_verdict(POISONED, rounds(None, None, accuracy=0.1))
    assert found.word == "not shown"
    assert "no success rate" in found.sentence
    assert "accuracy is 0.100" in found.sentence


def test_scenario_without_poisoning():
    assert "No client poisons" in poison_verdict(Scenario(rounds=1), rounds(None, None)).sentence


def test_every_account_has_a_sentence():
    found = privacy_verdict(LEDGER)
    assert "the total of clients 0-1 is at most ε" in found.sentence
    assert "one client protected by clip-noise" in found.sentence
    assert "the total of client 3 is" in found.sentence
    assert "is vacuous and enters no total" in found.sentence
    assert found.word.endswith("∞ of one client (δ = 1e-05)")


def test_epsilons_of_two_units_are_kept_apart():
    histories = {
        0: (private(1),),
        1: (private(1), entry(2, "none")),
        2: (noisy(1), noisy(2)),
    }
    client = number(Ledger(histories).total(2, CLIENT))
    found = privacy_verdict(Ledger(histories))
    assert found.word == f"ε 2.48 to ∞ of one example; {client} of one client (δ = 1e-05)"
    assert "by clip-noise (replace-one)" in found.sentence
    # Who never had a mechanism spoils every account.
    found = privacy_verdict(Ledger(histories | {3: (entry(1, "none"),)}))
    assert f"; {client} to ∞ of one client" in found.word


def test_two_adjacencies_are_kept_apart():
    mixed = entry(1, "dp-instahide", steps=100, epsilon=7.0)
    found = privacy_verdict(Ledger({0: (private(1),), 1: (mixed,)}, labels_public=True))
    assert found.word == (
        "ε 2.48 of one example (add-or-remove-one); 7.00 of one example (replace-one, labels "
        "public) (δ = 1e-05 or δ = 0)"
    )


def test_equal_clients_share_a_bound():
    found = privacy_verdict(Ledger({0: (private(1),), 1: (private(1),)}))
    assert "the total of each of the 2 clients is at most ε 2.48." in found.sentence
    assert found.word == "ε 2.48 of one example (δ = 1e-05)"


def test_clients_open_once_have_infinite_totals():
    found = privacy_verdict(Ledger({0: (private(1), entry(2, "none"))}))
    assert "every total is infinite" in found.sentence
    assert "at most ε 2.48" in found.sentence


def test_psnr_cap_is_that_of_the_evaluation():
    assert MOST_DECIBELS == PSNR_CAP
    (found,) = leak_verdicts(table({"psnr": 100.0}))
    assert "median PSNR of ≥ 100 dB" in found.sentence


def test_empty_ledger_spends_nothing():
    assert privacy_verdict(Ledger({})).word == "nothing"
    found = privacy_verdict(Ledger({0: (entry(1, "none"),)}))
    assert (found.word, found.sentence[:8]) == ("ε ∞", "None of ")
    assert privacy_verdict(Ledger({0: (noisy(1),)})).word.startswith("ε")


def test_foreign_epsilon_is_a_claim():
    stated = {"unit": "client", "adjacency": "replace-one", "epsilon": 1.0}
    ledger = Ledger({0: (PrivacyRelease(1, 0, "mine:Own", **stated),)})
    assert "mine:Own (replace-one, as its author claims)" in privacy_verdict(ledger).sentence


def test_few_of_many_reasons_are_given():
    rows = [SKIPPED | {"round": n, "skipped": f"reason {n}"} for n in range(9)]
    (found,) = leak_verdicts(table({"image": 1}, *rows))
    assert "9 images were not attacked: reason 0 (1), reason 1 (1) and more" in found.sentence
