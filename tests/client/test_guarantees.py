"""Epsilons that do not hold because images, or what is sent, depend on more than the mechanism."""

import math

import pytest

from fedlab.privacy.history_text import from_json, to_json
from fedlab.privacy.ledger import Ledger
from fedlab.protocol.guarantees import COUPLED, EXPOSED
from fedlab.protocol.planning import task_for
from tests.client.test_client_round import do, prepared
from tests.federations import small

PRIVATE = {"name": "dp-sgd"}
CLIENT = {"name": "clip-noise", "clipping_norm": 1.0, "noise_multiplier": 1.0}
CRAFTED = {"share": 0.1, "steps": 1, "epochs": 1}


def row(data, defense):
    role = {"role": "poisoning", "clients": "0", "data": data}
    done = do(*prepared(roles=[role], defenses=[defense]))
    assert from_json(to_json(done.history)) == done.history
    (found,) = Ledger({0: done.history}).rows()
    return found


@pytest.mark.parametrize(
    "data",
    [
        {"attack": "gradient-matching", **CRAFTED},
        {"attack": "hidden-trigger", "size": 2, **CRAFTED},
        {"attack": "availability", **CRAFTED},
        {"attack": "gradient-matching", "control": True, **CRAFTED},
        {"attack": "badnets", "share": 0.5, "size": 2},
        {"attack": "label-flip", "share": 0.5},
    ],
    ids=lambda data: "-".join(map(str, data.values())),
)
def test_poison_that_couples_images_has_no_bound(data):
    found = row(data, PRIVATE)
    assert (found.mechanism, found.statement, found.reason) == ("dp-sgd", "none", COUPLED)
    assert math.isinf(found.epsilon_round)
    assert math.isinf(found.epsilon_total)
    assert found.epsilon_protected is None


@pytest.mark.parametrize(
    "data", [{"attack": "badnets", "share": 1.0, "size": 2}, {"attack": "label-flip"}]
)
def test_poison_of_each_image_alone_keeps_the_bound(data):
    found = row(data, PRIVATE)
    assert (found.statement, found.reason) == ("formal", "")
    assert math.isfinite(found.epsilon_total)


def test_noise_for_the_client_covers_crafted_poisons():
    found = row({"attack": "gradient-matching", **CRAFTED}, CLIENT)
    assert (found.unit, found.statement, found.reason) == ("client", "formal", "")


@pytest.mark.parametrize(("knows", "exposed"), [("colluders", False), ("everyone", True)])
@pytest.mark.parametrize("defense", [PRIVATE, CLIENT])
def test_known_honest_updates_void_the_bound(knows, exposed, defense):
    update = {"attack": "inner-product", "knows": knows}
    role = {"role": "poisoning", "clients": "1", "rounds": "1", "update": update}
    prepared_run = prepared(roles=[role], defenses=[defense])
    first = do(*prepared_run)
    both = do(*prepared_run, round=2, history=first.history)
    rows = Ledger({0: both.history}).rows()
    expected = ("none", EXPOSED) if exposed else ("formal", "")
    assert [(each.statement, each.reason) for each in rows] == [expected, ("formal", "")]
    assert math.isinf(rows[-1].epsilon_total) is exposed
    assert math.isfinite(rows[-1].epsilon_protected)


def test_only_honest_clients_of_that_round_are_exposed():
    update = {"attack": "inner-product", "knows": "everyone"}
    role = {"role": "poisoning", "clients": "1", "rounds": "2", "update": update}
    scenario = small(roles=[role])
    assert not task_for(scenario, round=1, client=0).exposed
    assert task_for(scenario, round=2, client=0).exposed
    assert not task_for(scenario, round=2, client=1).exposed
