"""The hash check: weights that differ among clients get no answer."""

import math

import pytest
import torch

from fedlab.privacy.accounts import CLIENT
from tests.federations import finished, small

CHECK = {"name": "hash-check"}
SECURE = {"name": "secure-aggregation"}
FISHING = {"attack": "class-fishing", "target": 1}


def statuses(federation):
    return federation.folder.table("clients")["status"].tolist()


def test_equal_weights_are_answered():
    plain, checked = (finished(small(rounds=2, defenses=each)) for each in ([], [CHECK]))
    assert statuses(checked) == ["ok"] * 8
    assert all(torch.equal(t, checked.state[name]) for name, t in plain.state.items())


def test_nobody_answers_suppression():
    suppression = {"malicious": {"attack": "suppression", "clients": "1", "rounds": "2"}}
    federation = finished(
        small("model.width=16", rounds=2, server=suppression, defenses=[CHECK, SECURE])
    )
    assert statuses(federation) == ["ok"] * 4 + ["withheld"] * 4
    reasons = federation.folder.table("clients")["reason"].tolist()[4:]
    assert set(reasons) == {"another client was sent other weights"}


@pytest.mark.parametrize(
    ("checking", "fished", "expected"),
    [
        ("0-3", "0", ["withheld"] * 4),
        ("0-2", "0", ["withheld"] * 3 + ["ok"]),
        ("1-2", "0", ["ok"] * 4),
        ("0-3", "0-3", ["ok"] * 4),
        ("0-1", "0-1", ["ok"] * 4),
    ],
)
def test_only_clients_that_compare_see_a_difference(checking, fished, expected):
    server = {"malicious": FISHING | {"clients": fished}}
    federation = finished(small(rounds=1, server=server, defenses=[CHECK | {"clients": checking}]))
    assert statuses(federation) == expected


def test_the_decision_costs_no_epsilon():
    noise = {"name": "clip-noise", "noise_multiplier": 4.0}
    both, alone = (finished(small(rounds=1, defenses=[noise, *each])) for each in ([CHECK], []))
    assert math.isfinite(alone.ledger.total(0, CLIENT))
    assert both.ledger.total(0, CLIENT) == alone.ledger.total(0, CLIENT)


def test_an_attacked_update_is_replayed():
    roles = [{"role": "leaking", "clients": "0", "batch_size": 2}]
    attack = {"clients": "0", "iterations": 2, "preset": "fast"}
    federation = finished(small(rounds=1, roles=roles, defenses=[CHECK], reconstructions=[attack]))
    assert (federation.folder.table("leakage")["payload_cosine"] > 0.99999).all()
