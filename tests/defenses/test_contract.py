"""The contract of every defense, and the charges and failures of foreign ones."""

import math
import re
import textwrap
from dataclasses import fields, replace
from itertools import pairwise

import dp_accounting
import pytest
import torch
from dp_accounting.rdp import RdpAccountant
from torch import nn

from fedlab import BadInput, Federation, RunFailed
from fedlab.client.client_round import run_client_round
from fedlab.client.federated_data import FederatedData
from fedlab.core.plugins import PluginFailed
from fedlab.defenses import DEFENSES, Defense, Pipeline, Shard
from fedlab.privacy.release import OPEN
from fedlab.protocol.planning import task_for
from fedlab.protocol.round_facts import RoundFacts
from fedlab.scenario.scenario import Scenario
from tests.defenses.contexts import context, plain_pipeline
from tests.federations import finished, small

MODULE = "contract_defenses"

FOREIGN = """
from dataclasses import replace

from fedlab.defenses import Account, Defense
from fedlab.defenses.dp_sgd import DPSGD
from fedlab.privacy.release import PrivacyRelease


class Open(Defense):
    "Scales the update, and claims nothing."

    factor: float = 0.5
    "Factor of the update."

    def wrap(self, pipeline, context):
        return pipeline.releasing_each(lambda tensor: self.factor * tensor)


class Keeping(Open):
    "Scales the update, which keeps the guarantees of other defenses."

    keeps_guarantees = True


class Noisy(Defense):
    "Protects the client by Gaussian noise of sensitivity 2."

    noise_multiplier: float = 6.0
    "Standard deviation of the noise in units of the clipping norm."
    limit: float | None = None
    "Largest epsilon."

    account = Account("client", "replace-one", composition="gaussian", sensitivity=2.0)

    @property
    def privacy_budget(self):
        return self.limit

    def wrap(self, pipeline, context):
        cost = self.release(
            context, noise_multiplier=self.noise_multiplier, sample_rate=1.0, steps=1
        )
        return pipeline.charged(cost)


class Sampled(Defense):
    "Protects an example by Gaussian noise on Poisson batches."

    account = Account("example", "add-or-remove-one", composition="gaussian", sensitivity=1.0)

    def wrap(self, pipeline, context):
        return pipeline.charged(
            self.release(context, noise_multiplier=1.5, sample_rate=0.1, steps=7)
        )


class Pure(Defense):
    "Protects an example by a pure epsilon."

    account = Account("example", "replace-one")

    def wrap(self, pipeline, context):
        return pipeline.charged(self.release(context, epsilon=0.3))


class Inherited(DPSGD):
    "DP-SGD under another name."


class Broken(Defense):
    "Fails in many ways."

    how: str = "wrap raises"
    "The failure."

    keeps_guarantees = True

    def wrap(self, pipeline, context):
        here = context.round, context.participation

        def fail(*_):
            raise KeyError("oops")

        return {
            "wrap raises": lambda: fail(),
            "wrap returns None": lambda: None,
            "transform raises": lambda: pipeline.transforming(fail),
            "transform returns None": lambda: pipeline.transforming(lambda batch: None),
            "release raises": lambda: pipeline.releasing(fail),
            "release returns None": lambda: pipeline.releasing(lambda update: None),
            "sampler raises": lambda: replace(pipeline, sampler=lambda: map(fail, [1])),
            "charge returns None": lambda: replace(pipeline, charges=(lambda: None,)),
            "charges without an account": lambda: pipeline.charged(
                self.release(context, epsilon=0.1)
            ),
            "charges by hand": lambda: pipeline.charged(
                PrivacyRelease(*here, self.name, epsilon=0.1, unit="client", adjacency="any")
            ),
            "charges as another": lambda: pipeline.charged(
                PrivacyRelease(*here, "dp-instahide", epsilon=0.1)
            ),
            "charges late": lambda: replace(
                pipeline, charges=(lambda: PrivacyRelease(*here, "dp-instahide", epsilon=0.1),)
            ),
            "removes charges": lambda: replace(pipeline, planned=(), charges=()),
        }[self.how]()


class WrongCost(Broken):
    "States noise, but its account adds up epsilons."

    account = Account("example", "replace-one")

    def wrap(self, pipeline, context):
        return pipeline.charged(
            self.release(context, noise_multiplier=1.0, sample_rate=1.0, steps=1)
        )


class NoNoise(Broken):
    "States an epsilon, but its account composes noise."

    account = Account("example", "replace-one", composition="gaussian", sensitivity=1.0)

    def wrap(self, pipeline, context):
        return pipeline.charged(self.release(context, epsilon=0.1))
"""

FAILURES = re.findall(r'^            "(.*?)": lambda', FOREIGN, flags=re.M)
OWN = ("Open", "Keeping", "Noisy", "Sampled", "Pure", "Inherited")
every_defense = pytest.mark.parametrize(
    "name", [*DEFENSES.names, *(f"{MODULE}:{each}" for each in OWN)]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("foreign")
    (path / f"{MODULE}.py").write_text(textwrap.dedent(FOREIGN))
    return path


@pytest.fixture(autouse=True)
def _in_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)


def wrapped(defense, *, history=()):
    """The pipeline of a client with twelve images after some participations."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    images = torch.zeros(12, 1, 8, 8, dtype=torch.uint8)
    shard = Shard(images, torch.arange(12) % 10, 10)
    past = len(history)
    where = context(model, shard, round=past + 1, participation=past, history=history)
    pipeline = defense.apply(plain_pipeline(model, 12), where)
    for close in pipeline.close:
        close()
    return pipeline


@every_defense
def test_default_settings_and_texts_exist(name):
    kind = DEFENSES.get(name)
    defense = kind()
    assert defense.key == defense.name == name
    assert kind.__doc__ != Defense.__doc__
    assert len(kind.__doc__) > 10
    assert all(field.description for field in kind.model_fields.values())


def test_builtin_colours_are_distinct_hex():
    colours = [DEFENSES.get(name).colour for name in DEFENSES.builtin]
    assert all(re.fullmatch("#[0-9A-F]{6}", colour) for colour in colours)
    assert len(set(colours)) == len(colours)


@every_defense
def test_facts_are_fields_of_round_facts(name):
    facts = DEFENSES.get(name)().facts(())
    assert set(facts) <= {field.name for field in fields(RoundFacts)}


@every_defense
def test_wrap_returns_a_pipeline(name):
    pipeline = wrapped(DEFENSES.get(name)())
    assert type(pipeline) is Pipeline
    assert len(pipeline.planned) == len(pipeline.charges)


@every_defense
def test_charge_has_the_name_and_the_total_grows(name):
    defense = DEFENSES.get(name)()
    if defense.account is None:
        assert not {e.mechanism for e in wrapped(defense).planned} - {"leakage-gate", OPEN}
        return
    account, history, totals = replace(defense.account, mechanism=name), (), [0.0]
    for _ in range(3):
        pipeline = wrapped(defense, history=history)
        (entry,) = (charge() for charge in pipeline.charges)
        assert entry.mechanism == name
        history = (*history, entry)
        totals.append(account.total(history, accountant="rdp", delta=1e-5))
    assert all(before < after < math.inf for before, after in pairwise(totals))


@every_defense
def test_scenario_round_trips_through_toml(name):
    scenario = small(defenses=[{"name": name, "rounds": "2-"}])
    assert Scenario.parse(scenario.to_toml()) == scenario
    assert type(scenario.defenses[0]) is DEFENSES.get(name)


def carried_out(defenses):
    scenario = small(rounds=1, defenses=defenses)
    federated = FederatedData.of(scenario)
    return run_client_round(task_for(scenario, round=1, client=0), federated, federated.state, ())


@pytest.mark.parametrize(("name", "mechanism"), [("Open", "none"), ("Keeping", "clip-noise")])
def test_defense_without_guarantee_opens_the_round(name, mechanism):
    update = carried_out([{"name": f"{MODULE}:{name}"}, {"name": "clip-noise"}])
    assert [entry.mechanism for entry in update.history] == [mechanism]


def test_two_epsilons_need_kept_guarantees():
    pair = [{"name": f"{MODULE}:Pure"}, {"name": "clip-noise"}]
    with pytest.raises(BadInput, match="set keeps_guarantees = True in its class"):
        small(defenses=pair)
    assert small(defenses=[pair[0] | {"rounds": "1"}, pair[1] | {"rounds": "2-"}])


def test_foreign_defense_runs_and_is_toggled():
    federation = Federation(small(rounds=2, defenses=[{"name": f"{MODULE}:Pure", "clients": "0"}]))
    federation.step()
    federation.toggle(f"{MODULE}:Open", on=True, clients=[1], factor=0.25)
    federation.run()
    table = federation.folder.table("clients").set_index(["round", "client"])["defenses"]
    assert table[1, 0] == table[2, 0] == f"{MODULE}:Pure"
    assert (table[1, 1], table[2, 1]) == ("none", f"{MODULE}:Open")
    assert federation.scenario.defenses[-1].factor == 0.25


@pytest.mark.parametrize("how", FAILURES)
def test_failure_names_the_foreign_defense(how):
    broken = {"name": f"{MODULE}:Broken", "how": how}
    with pytest.raises(PluginFailed, match=f'defense "{MODULE}:Broken"'):
        carried_out([{"name": "dp-sgd"}, broken])


@pytest.mark.parametrize(
    ("name", "words"), [("WrongCost", 'composition="gaussian"'), ("NoNoise", "noise_multiplier")]
)
def test_cost_of_the_other_composition_is_refused(name, words):
    with pytest.raises(PluginFailed, match=f"{MODULE}:{name}.*{words}"):
        carried_out([{"name": f"{MODULE}:{name}"}])


def test_failed_run_names_the_foreign_defense():
    broken = {"name": f"{MODULE}:Broken", "how": "transform raises"}
    with pytest.raises(RunFailed, match=f'defense "{MODULE}:Broken" failed: KeyError'):
        finished(small(rounds=1, defenses=[broken]))


def theirs(noise, rate, steps):
    """Epsilon of Gaussian noise by dp-accounting, at the delta of the scenarios."""
    accountant = RdpAccountant()
    event = dp_accounting.GaussianDpEvent(noise)
    accountant.compose(dp_accounting.PoissonSampledDpEvent(rate, event), steps)
    return accountant.get_epsilon(1e-5)


@pytest.mark.parametrize(
    ("name", "unit", "expected"),
    [
        ("Noisy", "client", lambda rounds: theirs(6.0 / 2, 1.0, rounds)),
        ("Sampled", "example", lambda rounds: theirs(1.5, 0.1, 7 * rounds)),
        ("Pure", "example", lambda rounds: 0.3 * rounds),
    ],
)
def test_foreign_epsilon_equals_dp_accounting(name, unit, expected):
    scenario = small(rounds=3, defenses=[{"name": f"{MODULE}:{name}", "clients": "0"}])
    assert scenario.privacy.delta == 1e-5
    rows = [row for row in finished(scenario).ledger.rows() if row.client == 0]
    assert [row.epsilon_total for row in rows] == pytest.approx(
        [expected(rounds) for rounds in (1, 2, 3)], rel=0.01
    )
    assert rows[0].epsilon_round == pytest.approx(expected(1), rel=0.01)
    assert {(row.mechanism, row.unit) for row in rows} == {(f"{MODULE}:{name}", unit)}
    assert {row.statement for row in rows} == {"claimed"}


@pytest.mark.parametrize("name", ["Noisy", "Sampled", "Pure"])
def test_round_without_it_makes_the_total_infinite(name):
    entry = {"name": f"{MODULE}:{name}", "clients": "0", "rounds": "1,3"}
    rows = [r for r in finished(small(rounds=3, defenses=[entry])).ledger.rows() if r.client == 0]
    assert [math.isinf(row.epsilon_total) for row in rows] == [False, True, True]
    assert rows[2].epsilon_protected > rows[0].epsilon_protected


def test_foreign_budget_counts_the_sensitivity():
    limit = theirs(3.0, 1.0, 2) * 1.02
    entry = {"name": f"{MODULE}:Noisy", "clients": "0", "limit": limit}
    table = finished(small(rounds=3, defenses=[entry])).folder.table("clients")
    assert table[table["client"] == 0]["status"].tolist() == ["ok", "ok", "budget"]


def test_subclass_of_dp_sgd_costs_as_much():
    entries = [
        {"name": "dp-sgd", "clients": "0"},
        {"name": f"{MODULE}:Inherited", "clients": "1"},
    ]
    rows = finished(small(rounds=2, defenses=entries)).ledger.rows(2)
    assert rows[0].epsilon_total == rows[1].epsilon_total < math.inf
