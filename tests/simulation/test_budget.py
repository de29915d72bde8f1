"""A plan is what a run's ledger says at its end, and its inverse reaches the target."""

import math

import pytest

from fedlab import BadInput, Federation, Scenario, plan
from fedlab.core.schedule import spell
from fedlab.report.tables.plan import plan_table
from fedlab.simulation import budget
from tests.federations import small

DP = {"name": "dp-sgd", "noise_multiplier": 0.8, "rounds": "2-", "clients": "0-2"}
MIX = {"name": "dp-instahide", "k": 3, "rounds": "1", "clients": "1"}
CLIP = {"name": "clip-noise", "rounds": "3", "clients": "3"}
LEAK = {"role": "leaking", "clients": "0", "batch_size": 4}
POISON = {"role": "poisoning", "clients": "3", "data": {"attack": "label-flip"}}


@pytest.mark.parametrize(
    "tables",
    [
        {"defenses": [DP]},
        {"defenses": [DP, MIX, CLIP], "roles": [LEAK, POISON]},
        {"defenses": [DP | {"clients": "all"}], "server": {"cohort": 2}, "rounds": 4},
        {"defenses": [DP], "training": {"batch_size": 7, "epochs": 2}},
    ],
)
def test_the_plan_is_the_ledger_of_the_run(tables):
    scenario = small(**{"rounds": 3, **tables})
    planned = plan(scenario)
    federation = Federation(scenario)
    federation.run()
    assert planned.ledger.table().equals(federation.ledger.table())


def test_batch_statistics_open_every_round():
    model = {"name": "resnet8", "width": 4, "norm": "batch"}
    scenario = small(rounds=1, model=model, training={"share_buffers": True, "batch_size": 16})
    assert {row.statement for row in plan(scenario).ledger.rows()} == {"open"}


def test_a_target_is_reached_and_not_passed():
    asked = budget.with_target(small(rounds=3, defenses=[DP]), 3.0)
    found = plan(asked)
    assert 2.9 < found.epsilon <= 3.0
    (solved,) = found.solved
    assert solved.startswith("dp-sgd: noise_multiplier = ")
    noise = float(solved.split()[3])
    assert plan(small(rounds=3, defenses=[DP | {"noise_multiplier": noise}])).epsilon <= 3.0


SAMPLED = {"rounds": 4, "server": {"cohort": 2}, "defenses": [{"name": "dp-sgd"}]}


def test_one_noise_is_named_that_is_enough_for_all():
    asked = budget.with_target(small(**SAMPLED), 3.0)
    found = plan(asked)
    noise = {entry.noise_multiplier for each in found.ledger.histories.values() for entry in each}
    assert len(noise) > 1
    (solved,) = found.solved
    assert f"noise_multiplier = {max(noise):g} is enough for every client" in solved
    assert solved.endswith(f"down to {min(noise):g}")
    everywhere = SAMPLED | {"defenses": [{"name": "dp-sgd", "noise_multiplier": max(noise)}]}
    assert 2.9 < plan(small(**everywhere)).epsilon <= 3.0


def test_clients_of_one_epsilon_share_a_row():
    found = plan(budget.with_target(small(**SAMPLED), 3.0))
    noise = {entry.noise_multiplier for each in found.ledger.histories.values() for entry in each}
    (row,) = plan_table(found).rows
    clients, _, rounds, multiplier, *_, protected, total, _, _ = row
    assert clients == spell(found.ledger.histories)
    assert multiplier == f"{min(noise):.4g} to {max(noise):.4g}"
    assert (protected, total) == ("3.00", "3.00")
    counts = sorted(len(each) for each in found.ledger.histories.values())
    assert rounds == f"{counts[0]} to {counts[-1]}"


@pytest.mark.parametrize("target", [0.3, 3.0, 400.0])
def test_the_target_lies_within_the_table_of_noise(target):
    asked = budget.with_target(small(rounds=2, defenses=[DP | {"rounds": "all"}]), target)
    table = budget.noise_table(asked)
    epsilons = [found.epsilon for _, found in table]
    assert epsilons[0] > target > epsilons[-1]
    assert any(0.98 * target < each <= target for each in epsilons)
    assert set(budget.NOISE) < {noise for noise, _ in table}


def test_more_noise_costs_less_and_hides_more():
    table = budget.noise_table(small(rounds=2, defenses=[DP | {"rounds": "all", "clients": "all"}]))
    epsilons = [found.epsilon for _, found in table]
    assert epsilons == sorted(epsilons, reverse=True)
    ceilings = [found.ceiling(10) for _, found in table]
    assert ceilings == sorted(ceilings, reverse=True)
    assert ceilings[-1] < 1
    assert [noise for noise, _ in table] == list(budget.NOISE)


def test_a_scenario_without_noise_has_none_to_choose():
    with pytest.raises(BadInput, match="no defense of the scenario adds noise"):
        budget.noise_table(small())
    with pytest.raises(BadInput, match="takes a target epsilon"):
        budget.with_target(small(), 1.0)
    assert math.isnan(plan(small()).epsilon)


def test_the_cost_counts_every_participation(monkeypatch):
    calls = []
    monkeypatch.setattr(budget, "run_client_round", lambda *given: calls.append(given[0]))
    attack = {"clients": "0", "rounds": "1-2"}
    scenario = small(rounds=4, roles=[LEAK], reconstructions=[attack])
    cost = budget.measure(plan(scenario))
    assert len(calls) == 4  # leaking and honest clients, each twice
    assert cost.attacked == 2
    assert cost.memory > 2**20


@pytest.fixture
def fast(monkeypatch):
    found = budget.Cost(7200.0, 2, 2**30, 3)
    monkeypatch.setattr(budget, "measure", lambda _: found)


def test_noise_for_an_epsilon_is_one_command(fedlab, fast):
    settings = ["--set", "rounds=50", "--set", "data.clients=100", "--set", "server.cohort=10"]
    code, out, _ = fedlab("plan", "quickstart", *settings, "--defenses", "dp-sgd", "--epsilon", "3")
    assert code == 0
    assert "dp-sgd: noise_multiplier = " in out
    assert "What would other noise cost?" in out
    assert "time: about 2.0 h in 2 processes, without the attacks on 3 updates, which may" in out
    assert "memory: about 2.0 GiB" in out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--epsilon", "0"], "above it"),
        (["--noise", "0,1"], "numbers above 0"),
        (["--noise", "much"], "numbers above 0"),
        (["--defenses", "pruning", "--epsilon", "1"], "takes a target epsilon"),
        (["--defenses", "nothing"], "there is no defense"),
    ],
)
def test_impossible_plans_are_refused(fedlab, options, sentence):
    code, _, err = fedlab("plan", "quickstart", "--no-time", *options)
    assert code == 2
    assert sentence in err
    assert err.count("\n") == 1


def test_a_run_says_what_was_solved_for(fedlab, tmp_path):
    dp = {"name": "dp-sgd", "target_epsilon": 5.0}
    (tmp_path / "s.toml").write_text(small(rounds=1, defenses=[dp]).to_toml())
    code, out, _ = fedlab("run", tmp_path / "s.toml", "--out", tmp_path / "run")
    assert code == 0
    assert "solved for: dp-sgd: noise_multiplier = " in out


def test_nobody_knows_the_images_of_a_deployment():
    with pytest.raises(BadInput, match="have images of their own"):
        plan(small(engine={"name": "deployment"}))


def test_python_has_the_same(tmp_path):
    found = plan(Scenario.load("quickstart"))
    assert found.ceiling(10) == 1.0
    assert found.solved == ()
