"""What a rule stands is said before a run, and a short round does not end one."""

import logging

import numpy as np
import pytest
import torch

from fedlab import BadInput, Federation
from fedlab.scenario.rules import RULES
from fedlab.scenario.tables import CentralDP
from fedlab.server.aggregation import Aggregation
from fedlab.server.traits import LINEAR
from tests.federations import small
from tests.server.votes import SIZE, STATE, changes_of, flat, model, vote

KRUM = {"num_malicious_nodes": 1}


@pytest.mark.parametrize(
    ("name", "options", "least", "words"),
    [
        ("Krum", {"num_malicious_nodes": 2}, 7, r"2 malicious clients among 7 or more \(2 f \+ 3"),
        ("MultiKrum", {"num_malicious_nodes": 2, "num_nodes_to_select": 3}, 7, "among 7 or more"),
        ("Bulyan", {"num_malicious_nodes": 2}, 11, r"among 11 or more \(4 f \+ 3\)"),
        ("Bulyan", {}, 3, "0 malicious clients among 3 or more"),
        ("FedTrimmedAvg", {"beta": 0.2}, 5, "cuts nothing of 4 replies .* set beta to 0.25 or"),
        ("FedTrimmedAvg", {"beta": 0.0}, 1, None),
        ("FedMedian", {}, 1, None),
        ("NormClipping", {}, 1, None),
        (
            "DnC",
            {"num_malicious_nodes": 3},
            7,
            r"3 malicious .* 7 or more \(2 f \+ 1.* to 2 or raise",
        ),
        ("DnC", {"filtering": 3.0}, 4, "DnC drops all 3 clients of a round: lower filtering"),
        ("FLAME", {}, 3, "a majority among 3 or more clients, but a round has 2"),
        ("FoolsGold", {}, 2, "compares clients with each other, but a round has 1"),
        ("CenteredClipping", {}, 1, None),
        ("Bucketing", {"size": 3}, 7, "makes only 2 buckets of 6 clients: lower size"),
        (
            "Bucketing",
            {"rule": "Krum", "num_malicious_nodes": 1},
            9,
            "makes 4 buckets of 8 clients: Krum tolerates 1 malicious .* or lower size",
        ),
        ("Bucketing", {"size": 1, "rule": "FedMedian"}, 1, None),
    ],
)
def test_a_cohort_below_the_minimum_is_refused(name, options, least, words):
    Aggregation(name, options, cohort=least)
    if words:
        with pytest.raises(BadInput, match=words):
            Aggregation(name, options, cohort=least - 1)


def test_a_refused_cohort_names_the_fix():
    with pytest.raises(BadInput, match=r"has 9: lower num_malicious_nodes to 1 or raise server\.c"):
        Aggregation("Bulyan", {"num_malicious_nodes": 2}, cohort=9)
    with pytest.raises(BadInput, match=r"has 2: raise server\.cohort$"):
        Aggregation("Krum", {}, cohort=2)


@pytest.mark.parametrize("wrong", [-1, 1.0, True, "1"])
def test_a_number_of_attackers_is_a_whole_number(wrong):
    with pytest.raises(BadInput, match="num_malicious_nodes is a whole number"):
        Aggregation("Krum", {"num_malicious_nodes": wrong}, cohort=20)


@pytest.mark.parametrize("wrong", [0, 7])
def test_selecting_more_than_the_honest_is_refused(wrong):
    with pytest.raises(BadInput, match="of 8 clients only 1 to 6 can be selected"):
        Aggregation("MultiKrum", {"num_malicious_nodes": 2, "num_nodes_to_select": wrong}, cohort=8)


@pytest.mark.parametrize("server", [{"cohort": 4}, {}])
def test_a_small_cohort_is_refused_before_the_run(server):
    server |= {"strategy": "Bulyan", "options": {"num_malicious_nodes": 1}}
    clients = 8 if "cohort" in server else 4
    scenario = small(server=server, data={"train": 160, "test": 80, "clients": clients}, rounds=1)
    with pytest.raises(BadInput, match="Bulyan tolerates 1 malicious clients among 7 or more"):
        Federation(scenario)


def models(n, spread=0.1, seed=0):
    random = np.random.default_rng(seed)
    return [model(0.5 + spread * random.standard_normal(SIZE)) for _ in range(n)]


@pytest.mark.parametrize(
    ("name", "malicious", "cohort", "left", "stood"),
    [("Bulyan", 2, 11, 10, 1), ("Bulyan", 2, 11, 4, 0), ("Krum", 3, 9, 7, 2), ("Krum", 1, 5, 3, 0)],
)
def test_a_short_round_lowers_the_attackers(name, malicious, cohort, left, stood, caplog):
    aggregation = Aggregation(name, {"num_malicious_nodes": malicious}, cohort=cohort)
    sent = models(left)
    done = vote(sent, name, aggregation=aggregation)
    expected = vote(sent, name, {"num_malicious_nodes": stood})
    np.testing.assert_array_equal(flat(done.arrays), flat(expected.arrays))
    assert done.used == expected.used
    assert caplog.messages == [
        f"round 1: {name} has {left} replies of {cohort}, too few for {malicious} malicious "
        f"clients; it tolerates {stood}"
    ]
    caplog.clear()
    vote(models(cohort), name, aggregation=aggregation)  # which is again as before
    assert not caplog.messages


@pytest.mark.parametrize("name", ["Krum", "MultiKrum", "Bulyan"])
@pytest.mark.parametrize("left", [1, 2])
def test_two_replies_leave_the_model_unchanged(name, left, caplog):
    done = vote(models(left), name, aggregation=Aggregation(name, KRUM, cohort=7))
    assert (done.arrays, done.used) == ({}, frozenset())
    assert f"{name} has only {left} replies and the model stays" in caplog.text


def test_multi_krum_selects_only_honest_replies():
    options = {"num_malicious_nodes": 2, "num_nodes_to_select": 6}
    sent = models(6)
    sent[0], sent[1] = model(np.full(SIZE, -50.0)), model(np.full(SIZE, 50.0))
    done = vote(sent, "MultiKrum", aggregation=Aggregation("MultiKrum", options, cohort=8))
    assert done.used == {2, 3, 4, 5}


@pytest.mark.parametrize(("cohort", "left", "cut"), [(5, 4, 1), (10, 9, 2), (10, 3, 1), (5, 2, 0)])
def test_a_trimmed_mean_cuts_as_of_a_full_cohort(cohort, left, cut, caplog):
    """Of 4 replies Flower would cut 0.2 * 4 = 0, and one attacker would have the mean."""
    aggregation = Aggregation("FedTrimmedAvg", {"beta": 0.2}, cohort=cohort)
    sent = models(left)
    ordered = np.sort(changes_of(sent), axis=0)
    found = flat(vote(sent, "FedTrimmedAvg", aggregation=aggregation).arrays) - flat(STATE)
    np.testing.assert_allclose(found, ordered[cut : left - cut].mean(0), atol=1e-6)
    assert bool(caplog.messages) == (cut < int(0.2 * cohort))


def test_trimming_of_any_number_of_replies(caplog):
    caplog.set_level(logging.ERROR)
    for cohort in (3, 5, 8, 10, 15, 29):
        for beta in (0.1, 0.2, 0.34, 0.49):
            if not int(beta * cohort):
                continue
            aggregation = Aggregation("FedTrimmedAvg", {"beta": beta}, cohort=cohort)
            for left in {1, cohort // 2, cohort - 1, cohort}:
                cut = min(int(beta * cohort), (left - 1) // 2)
                sent = [model(np.full(SIZE, float(10**place))) for place in range(min(left, 6))]
                sent += [model(np.full(SIZE, 1.0))] * (left - len(sent))
                ordered = np.sort(changes_of(sent), axis=0)[cut : left - cut].mean(0)
                found = flat(vote(sent, "", aggregation=aggregation).arrays) - flat(STATE)
                np.testing.assert_allclose(found, ordered, rtol=1e-5, atol=1e-5)


def test_central_noise_is_only_for_means():
    for name in sorted(RULES.builtin):
        options = {"FedTrimmedAvg": {"beta": 0.3}}.get(name, {})
        if name in LINEAR:
            Aggregation(name, options, central=CentralDP(), cohort=8)
        elif name != "QFedAvg":
            with pytest.raises(BadInput, match=f"scales its noise for a mean, and {name} is none"):
                Aggregation(name, options, central=CentralDP(), cohort=8)


def test_a_rule_that_needs_losses_is_refused():
    with pytest.raises(BadInput, match="training losses, which do not travel"):
        Aggregation("QFedAvg", {"client_learning_rate": 0.1})


@pytest.mark.parametrize("name", ["NormClipping", "GeometricMedian", "FLTrust", "FLAME", "DnC"])
def test_rules_without_history_keep_no_memory(name):
    aggregation = Aggregation(name, {})
    vote(models(5), name, aggregation=aggregation, root=model(np.full(SIZE, 0.5)))
    assert aggregation.memory() == {}
    aggregation.recall({})


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("NormClipping", {"clipping_norm": 0.0}, "clipping_norm must be above 0"),
        ("NormClipping", {"noise": -1.0}, "noise must be at least 0"),
        ("NormClipping", {"settings": 1}, "has no option settings; it has clipping_norm, noise, w"),
        ("GeometricMedian", {"iterations": 0}, "iterations must be"),
        ("GeometricMedian", {"eps": 0.0}, "eps must be above 0"),
        ("FLTrust", {"eta": 1}, "FLTrust has no option eta; it has none"),
        ("FLAME", {"noise_level": -0.1}, "noise_level must be at least 0"),
        ("DnC", {"num_malicious_nodes": 0}, "num_malicious_nodes must be at least 1"),
        ("DnC", {"filtering": 0.5}, "filtering times num_malicious_nodes must be at least 1"),
        ("DnC", {"iterations": 0}, "iterations must be at least 1"),
        ("DnC", {"coordinates": 0}, "coordinates must be at least 1"),
        ("CenteredClipping", {"radius": 0.0}, "radius must be above 0"),
        ("CenteredClipping", {"iterations": 0}, "iterations must be at least 1"),
        ("CenteredClipping", {"momentum": 1.0}, "momentum must be at least 0 and below 1"),
        ("FoolsGold", {"confidence": 0.0}, "confidence must be above 0"),
        ("Bucketing", {"size": 0}, "size must be at least 1"),
        ("Bucketing", {"momentum": -0.1}, "momentum must be at least 0 and below 1"),
        ("Bucketing", {"rule": "Krumm"}, 'Bucketing: there is no .* did you mean "Krum"'),
        ("Bucketing", {"rule": "Krum", "radius": 1.0}, "Bucketing: Krum has no option radius"),
        ("Bucketing", {"rule": "FLTrust"}, "FLTrust compares single clients with root images"),
        ("Bucketing", {"rule": "FoolsGold"}, "FoolsGold follows single clients over rounds"),
    ],
)
def test_options_of_our_rules_are_checked(name, options, words):
    with pytest.raises(BadInput, match=words):
        Aggregation(name, options)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("GeometricMedian", {"iterations": 2.5}, "iterations is a whole number, not 2.5"),
        ("NormClipping", {"weighted": "no"}, "weighted is true or false, not 'no'"),
        ("NormClipping", {"clipping_norm": True}, "clipping_norm is a number, not True"),
        ("FedAvgM", {"server_momentum": "much"}, "server_momentum is a number, not 'much'"),
    ],
)
def test_options_of_the_wrong_type_are_refused(name, options, words):
    with pytest.raises(BadInput, match=words):
        Aggregation(name, options)


def test_huge_replies_give_finite_models():
    sent = [*models(6), {name: torch.full_like(value, 3e38) for name, value in STATE.items()}]
    rules = ("NormClipping", "GeometricMedian", "FLAME", "DnC", "CenteredClipping", "FoolsGold")
    for name in ("Krum", "Bulyan", "Bucketing", *rules):
        options = KRUM if name in ("Krum", "Bulyan") else {}
        assert np.isfinite(flat(vote(sent, name, options).arrays)).all()
