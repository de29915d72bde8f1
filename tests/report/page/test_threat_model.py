"""The threat model states every assumption of a scenario, and the question its parts."""

import pytest

from fedlab.defenses import DEFENSES
from fedlab.report.page.research_question import research_question
from fedlab.report.page.threat_model import threat_model
from fedlab.scenario.scenario import Scenario, packaged
from tests.federations import small


def told(scenario, term):
    return " ".join(text for name, text in threat_model(scenario) if name == term)


def test_every_packaged_scenario_is_described():
    for name in packaged():
        scenario = Scenario.load(name)
        assert research_question(scenario).endswith("?")
        assert all(text.endswith(".") for _, text in threat_model(scenario)), name


def test_the_server():
    assert told(small(), "Server").startswith("Honest but curious")
    imprint = small(server={"malicious": {"attack": "imprint", "bins": 64}})
    assert told(imprint, "Server").startswith("Malicious: it inserts a block of 64 bins")
    fishing = small(server={"malicious": {"attack": "class-fishing", "target": 3, "rounds": "2"}})
    assert "only class 3 has" in told(fishing, "Server")
    traps = small(server={"malicious": {"attack": "trap-weights", "rounds": "2"}})
    assert "clients all in rounds 2 a first fully connected layer" in told(traps, "Server")
    suppression = small(server={"malicious": {"attack": "suppression", "clients": "2"}})
    assert "all clients of a secure sum but client 2" in told(suppression, "Server")
    assert "no protection from this server" in told(small(server={"central_dp": {}}), "Server")


def test_the_attackers_knowledge():
    entry = {"clients": "1", "rounds": "1-2", "order": "average", "mode": "eval", "adapt": False}
    text = told(
        small(reconstructions=[entry | {"labels": "inferred", "seconds": 2}]), "Attack on updates"
    )
    for words in (
        "client 1 in rounds 1-2",
        "inferred from the update",
        "averages over",
        "in evaluation mode",
        "Its settings are those of the preset.",
        "after 2 s at most",
    ):
        assert words in text
    assert "Labels are known" in told(small(reconstructions=[{}]), "Attack on updates")


def test_poisoning_clients_and_their_defenses():
    data, update = (
        {"role": "poisoning", "clients": "0", "data": {"attack": "label-flip"}},
        {"role": "poisoning", "clients": "1", "update": {"attack": "min-max", "knows": "everyone"}},
    )
    text = told(small(roles=[data, update]), "Poisoning")
    assert "label-flip. They run the scheduled defenses." in text
    assert (
        "min-max. They run no defense. They know all honest updates, which is an upper bound."
        in text
    )


def test_public_and_hidden_facts():
    assert "They send BatchNorm statistics too" in told(
        small(training={"share_buffers": True}), "Other clients"
    )
    assert "Labels are declared public" in told(small(privacy={"labels_public": True}), "Public")
    masked = small(defenses=[{"name": "secure-aggregation"}])
    assert "the server sees only the sum" in told(masked, "Hidden from the attacker")


def test_strength_of_defenses():
    text = told(small(defenses=[{"name": "dp-sgd", "rounds": "2", "clients": "0-1"}]), "Defense")
    assert text == "dp-sgd, clients 0-1 in round 2: noise_multiplier 1, clipping_norm 1."


@pytest.mark.parametrize("name", DEFENSES.builtin)
def test_every_strength_is_a_setting_that_is_stated(name):
    text = told(small(defenses=[{"name": name}]), "Defense")
    kind = DEFENSES.get(name)
    assert set(kind.strengths) <= set(kind.model_fields)
    assert all(f"{each} " in text for each in kind.strengths)


def test_questions():
    assert (
        research_question(small()) == "How well does a federation of 4 clients learn in 4 rounds?"
    )
    defended = small(reconstructions=[{"clients": "1"}], defenses=[{"name": "pruning"}])
    assert research_question(defended) == (
        "Can the server reconstruct the images of client 1 from their updates, and what does "
        "pruning change?"
    )
    assert research_question(defended, defenses=["a", "b"]).endswith("and what do a and b change?")
