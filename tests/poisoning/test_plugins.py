"""Tests of data poisons and update attacks from outside the package."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from fedlab import BadInput, Federation, Scenario
from fedlab.poisoning import (
    POISONS,
    UPDATE_ATTACKS,
    BackdoorPoison,
    ColludingAttack,
    DataPoison,
    UpdateAttack,
)
from tests.federations import finished, small


class Darken(DataPoison):
    """Darkens every image."""

    factor: float = 0.5

    def poison(self, shard, context):
        return replace(shard, images=(shard.images * self.factor).byte())


class WhiteRow(BackdoorPoison):
    """Makes the first row of an image white."""

    def stamp(self, images, common, *, client):
        stamped = images.clone()
        stamped[..., 0, :] = 255
        return stamped


class Broken(DataPoison):
    """Fails in one of several ways."""

    how: str = "raises"

    def poison(self, shard, context):
        if self.how == "refuses":
            raise ValueError("these images are too small")
        return 1 / 0 if self.how == "raises" else None


class Freeze(UpdateAttack):
    """Sends the global weights back, or a change of the wrong length."""

    length: int | None = None

    def tamper(self, change, context):
        return torch.zeros(len(change) if self.length is None else self.length)


class Opposite(ColludingAttack):
    """Sends the reversed sum of the honest updates that it knows."""

    def combine(self, known, collusion):
        return -known.sum(0)


class Slow(UpdateAttack):
    """Trains with a tenth of the learning rate."""

    broken: bool = False

    def adjust_training(self, training):
        if self.broken:
            return None
        return replace(training, lr=training.lr / 10)

    def tamper(self, change, context):
        return change


def path(cls):
    return f"tests.poisoning.test_plugins:{cls.__name__}"


def poisoning(**tables):
    return {"role": "poisoning", "clients": "0", **tables}


def statuses(federation):
    rows = federation.folder.table("clients")
    return rows.set_index("client")[["status", "reason", "update_norm"]]


def test_foreign_poison_runs_and_survives_toml():
    for cls, settings in ((Darken, {"factor": 0.2}), (WhiteRow, {"target": 3})):
        scenario = small("rounds=1", roles=[poisoning(data={"attack": path(cls), **settings})])
        assert Scenario.parse(scenario.to_toml()) == scenario
        federation = finished(scenario)
        assert set(statuses(federation)["status"]) == {"ok"}
        success = federation.folder.rounds()[-1].attack_success_rate
        assert (success is None) is (cls is Darken)
        assert scenario.role(round=1, client=0).data.key == path(cls)


def ended(scenario):
    """The federation after its only round, which a failed poison does not stop."""
    federation = Federation(scenario)
    federation.step()
    return federation


@pytest.mark.parametrize("cls", [Freeze, Opposite, Slow])
def test_foreign_update_attack_runs(cls):
    role = poisoning(clients="0-1", update={"attack": path(cls)})
    plain = statuses(finished(small("rounds=1")))["update_norm"]
    found = statuses(finished(small("rounds=1", roles=[role])))["update_norm"]
    assert (found[2:] == plain[2:]).all()
    if cls is Freeze:
        assert (found[:1] == 0).all()
    elif cls is Opposite:
        assert found[0] == found[1] > plain[:1].max()
    else:
        assert (found[:1] < plain[:1] / 2).all()


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("raises", f'data poison "{path(Broken)}" failed: ZeroDivisionError: division by zero'),
        ("returns", f'data poison "{path(Broken)}" failed: .*poison returned NoneType'),
        ("refuses", f"{path(Broken)}: these images are too small"),
    ],
)
def test_broken_poison_costs_a_sentence(how, sentence):
    scenario = small("rounds=1", roles=[poisoning(data={"attack": path(Broken), "how": how})])
    row = statuses(ended(scenario)).loc[0]
    assert row["status"] != "ok"
    assert re.search(sentence, row["reason"])


@pytest.mark.parametrize(
    ("update", "sentence"),
    [
        ({"attack": path(Freeze), "length": 3}, f"{path(Freeze)}: a vector of shape (3,)"),
        ({"attack": path(Slow), "broken": True}, f'update attack "{path(Slow)}" failed: Attr'),
    ],
)
def test_broken_update_attack_costs_a_sentence(update, sentence):
    row = statuses(ended(small("rounds=1", roles=[poisoning(update=update)]))).loc[0]
    assert row["status"] != "ok"
    assert sentence in row["reason"]


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"data": {"attack": "badnet"}}, 'no data poison "badnet"; did you mean "badnets"'),
        ({"data": {"attack": "nowhere.at:All"}}, "cannot be imported"),
        ({"data": {"attack": path(Freeze)}}, "is no subclass of fedlab.poisoning.base.DataPoison"),
        ({"data": {"attack": "badnets", "sice": 2}}, 'no key "sice"; did you mean "size"'),
        ({"update": {"attack": "scalin"}}, 'no update attack "scalin"'),
        ({"update": {"attack": "min-max", "knows": "all"}}, "knows"),
    ],
)
def test_unusable_names_and_keys_are_refused(table, problem):
    with pytest.raises(BadInput, match=problem):
        small(roles=[poisoning(**table)])


def test_builtin_names_load_and_have_docs():
    for registry in (POISONS, UPDATE_ATTACKS):
        for name in registry.builtin:
            found = registry.get(name)
            assert found().key == name
            assert found.__doc__
            assert all(field.description for key, field in found.model_fields.items())


def test_reading_any_poison_needs_no_torch():
    code = f"""
import sys
from fedlab.scenario.roles import Poisoning
for name in {POISONS.names!r}:
    Poisoning(data={{"attack": name}})
for name in {UPDATE_ATTACKS.names!r}:
    Poisoning(update={{"attack": name}})
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
