"""What a client says that a round cost it is held against its task."""

from dataclasses import replace

import pytest

from fedlab.client.client_round import run_client_round
from fedlab.client.federated_data import FederatedData
from fedlab.defenses.clip_noise import ClipNoise
from fedlab.privacy.release import OPEN, PrivacyRelease
from fedlab.protocol.declared_cost import PublicSizes, declared_problem, expected_cost
from fedlab.protocol.planning import task_for
from tests.federations import small

DP = {"name": "dp-sgd"}
MIX = {"name": "dp-instahide", "k": 2}
LEAK = {"role": "leaking", "clients": "0", "batch_size": 3}
POISSON = LEAK | {"sampling": "poisson"}
FLIP = {"role": "poisoning", "clients": "0"}
SCALE = {"attack": "scaling", "factor": 2.0}
OBEDIENT = {"role": "poisoning", "clients": "0", "obeys_defenses": True, "update": SCALE}
PIXELS = 64


HONEST = [
    ([], []),
    ([DP], []),
    ([DP], [LEAK]),
    ([DP], [POISSON]),
    ([DP], [FLIP]),
    ([DP], [OBEDIENT]),
    ([DP | {"clipping": "adaptive"}], []),
    ([DP, {"name": "clip-noise"}], []),
    ([{"name": "clip-noise"}, {"name": "leakage-gate", "iterations": 1}], []),
    ([{"name": "leakage-gate", "every": 2, "iterations": 1}, DP], []),
    ([MIX], []),
    ([MIX | {"k": 1}], []),
    ([MIX | {"noise": "gaussian"}], []),
    ([MIX | {"weights": "dirichlet", "cap": 0.8}], [LEAK]),
    ([MIX | {"frozen": 30}, {"name": "leakage-gate", "iterations": 1}], []),
    ([MIX | {"frozen": 30}], [LEAK]),
    ([{"name": "mixup"}, {"name": "pruning"}], []),
    ([{"name": "tests.defenses.claims:OwnGate", "iterations": 1}, DP], []),
    ([{"name": "tests.defenses.claims:PerExample"}], []),
    ([{"name": "tests.defenses.claims:Inspects"}, DP], []),
]
"""Defenses and roles of clients that keep to their tasks."""


class Planned(ClipNoise):
    """Clip-noise from elsewhere."""


def federated(defenses, roles=(), **tables):
    model = {"name": "mlp", "width": 4}
    scenario = small(defenses=defenses, roles=list(roles), model=model, **tables)
    return scenario, FederatedData.of(scenario)


def spent(scenario, site, *, rounds=1):
    """The history of client 0 after some rounds of its own code."""
    history = ()
    for round in range(1, rounds + 1):
        task = task_for(scenario, round=round, client=0)
        history = run_client_round(task, site, site.state, history).history
    return history


def problem(scenario, site, entries, before=(), *, sizes=True, buffers=False, round=1):
    public = PublicSizes(site.sizes, PIXELS) if sizes else None
    task = task_for(scenario, round=round, client=0)
    return declared_problem(task, entries, before, sizes=public, buffers=buffers)


@pytest.mark.parametrize("sizes", [True, False])
@pytest.mark.parametrize(("defenses", "roles"), HONEST)
def test_an_honest_client_is_believed(defenses, roles, sizes):
    scenario, site = federated(defenses, roles)
    first, *others = history = spent(scenario, site, rounds=2)
    mine = [entry for entry in history if entry.round == 2]
    before = tuple(entry for entry in history if entry.round == 1)
    assert first.round == 1
    assert others
    assert problem(scenario, site, before, sizes=sizes) is None
    assert problem(scenario, site, tuple(mine), before, sizes=sizes, round=2) is None


@pytest.mark.parametrize(("defenses", "roles"), HONEST)
def test_the_server_expects_what_an_honest_client_spends(defenses, roles):
    scenario, site = federated(defenses, roles)
    task = task_for(scenario, round=1, client=0)
    sizes = PublicSizes(site.sizes, PIXELS)
    expected = expected_cost(task, (), sizes=sizes, buffers=False)
    if any(each["name"].startswith("tests.") for each in defenses):
        assert [entry.mechanism for entry in expected] == [OPEN]  # it may charge more than it plans
        return
    alike = {"release": None, "next_clipping_norm": None}
    planned, declared = (
        {replace(entry, **alike) for entry in entries}
        for entries in (expected, spent(scenario, site))
    )
    assert planned == declared


@pytest.mark.parametrize(
    ("defense", "lie"),
    [
        *((DP, {key: value}) for key, value in {
            "noise_multiplier": 1.01,
            "sample_rate": 0.1,
            "steps": 1,
            "clipping_norm": 0.5,
            "epsilon": 0.0,
            "release": "name",
            "fixed_batch": True,
            "next_clipping_norm": 1.0,
            "void": "why",
            "mechanism": "none",
        }.items()),
        (DP | {"clipping": "adaptive"}, {"next_clipping_norm": None}),
        ({"name": "clip-noise"}, {"noise_multiplier": 9.0}),
        ({"name": "clip-noise"}, {"steps": 0}),
        ({"name": "clip-noise"}, {"mechanism": "dp-sgd"}),
        (MIX, {"epsilon": 0.0}),
        (MIX, {"steps": 1}),
        (MIX, {"release": "name"}),
        (MIX | {"noise": "gaussian"}, {"epsilon": 1.0}),
        (MIX | {"frozen": 30}, {"epsilon": 1.0}),
        (MIX | {"frozen": 30}, {"release": None}),
        ({"name": "pruning"}, {"mechanism": "dp-sgd", "noise_multiplier": 9.0}),
        ({"name": "tests.defenses.claims:PerExample"}, {"unit": "client"}),
        ({"name": "tests.defenses.claims:PerExample"}, {"mechanism": "none"}),
        ({"name": "tests.defenses.claims:PerExample"}, {"needs_public_labels": True}),
        ({"name": "tests.protocol.test_declared_cost:Planned"}, {"noise_multiplier": 2.0}),
        ({"name": "tests.protocol.test_declared_cost:Planned"}, {"steps": 0}),
    ],
)  # fmt: skip
def test_a_lie_about_any_number_is_named(defense, lie):
    scenario, site = federated([defense])
    (entry,) = spent(scenario, site)
    assert problem(scenario, site, (entry,)) is None
    assert "declares" in problem(scenario, site, (replace(entry, **lie),))


def test_a_gate_that_is_not_declared_is_missed():
    scenario, site = federated([DP, {"name": "leakage-gate", "iterations": 1}])
    private, gate = spent(scenario, site)
    assert gate.mechanism == "leakage-gate"
    assert "its task is dp-sgd and leakage-gate" in problem(scenario, site, (private,))


def test_shared_statistics_open_the_round():
    scenario, site = federated([DP])
    entries = spent(scenario, site)
    assert "its task is none" in problem(scenario, site, entries, buffers=True)
    assert problem(scenario, site, (PrivacyRelease(1, 0, "none"),), buffers=True) is None


def test_a_set_of_another_cost_needs_another_name():
    scenario, site = federated([MIX | {"frozen": 30}])
    (now,) = spent(scenario, site)
    cheaper = replace(now, epsilon=now.epsilon / 2)
    assert problem(scenario, site, (now,), (now,)) is None
    assert "the name of an earlier set" in problem(scenario, site, (now,), (cheaper,))


def test_a_foreign_defense_may_charge_more_than_planned():
    scenario, site = federated([{"name": "tests.protocol.test_declared_cost:Planned"}])
    (entry,) = spent(scenario, site)
    assert problem(scenario, site, (replace(entry, noise_multiplier=0.5),)) is None
    assert problem(scenario, site, (entry, PrivacyRelease(1, 0, "none"))) is None
