"""The shipped scenarios run on the real images that they are made for."""

import re
import time

import pytest

from fedlab import Federation, Scenario
from fedlab.poisoning import POISONS, UPDATE_ATTACKS
from fedlab.privacy.accounts import CLIENT
from fedlab.report.tables.schedule import schedule_grid
from fedlab.scenario.scenario import PACKAGED, packaged
from tests import real_images


def attacked_by(preset, clients):
    """Overrides: the attack neither tunes itself nor measures its power, which cost most."""
    entry = {"preset": preset, "power": "false", "clients": clients}
    return [f"reconstructions.0.{key}={value}" for key, value in entry.items()]


def run(name, tmp_path, overrides=()):
    federation = Federation(Scenario.load(name, overrides), out=tmp_path / "run")
    federation.run()
    table = federation.folder.table("leakage")
    return federation, table[table["target"] == "original"]


def test_scenarios_state_subject_and_duration():
    assert {"chest_xray", "cifar10", "defenses", "fashion_mnist", "malicious_server"} < set(
        packaged()
    )
    for name in packaged():
        comment = [
            line
            for line in (PACKAGED / f"{name}.toml").read_text().splitlines()
            if line.startswith("#")
        ]
        assert ":" in comment[0]
        assert re.search("minute|seconds", " ".join(comment))
        scenario = Scenario.load(name)
        assert scenario.name == name
        assert schedule_grid(scenario).rows


def test_there_is_one_for_every_poison():
    roles = [role for name in packaged() for role in Scenario.load(name).poisons]
    data = {role.data.key for role in roles if role.data}
    updates = {role.update.key for role in roles if role.update}
    assert data >= set(POISONS.builtin)
    assert updates >= set(UPDATE_ATTACKS.builtin) - {"gaussian"}
    assert any(role.claims for role in roles)
    assert "gaussian" in (PACKAGED / "sign_flip.toml").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "number", "least"),
    [
        ("label_flip", 7, 0.25),
        ("badnets", 5, 0.8),
        ("blended", 8, 0.6),
        ("sinusoidal", 8, 0.3),
        ("model_replacement", 5, 0.8),
        ("constrain_and_scale", 5, 0.4),
    ],
)
def test_poisons_with_a_goal_reach_it(tmp_path, name, number, least):
    federation, _ = run(name, tmp_path)
    assert federation.folder.rounds()[number].attack_success_rate > least
    if name == "badnets":
        assert federation.folder.rounds()[10].attack_success_rate > 0.3  # it persists


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sign_flip", "inner_product"])
def test_updates_turned_round_stop_the_training(tmp_path, name):
    federation, _ = run(name, tmp_path)
    assert federation.folder.rounds()[-1].accuracy < 0.4
    assert federation.folder.rounds()[-1].worst_recall < 0.1


@pytest.mark.slow
def test_a_cap_answers_a_lie_about_examples(tmp_path):
    capped, _ = run("lying_weights", tmp_path)
    assert capped.folder.rounds()[-1].accuracy > 0.8
    believed = Federation(Scenario.load("lying_weights", ["server.cap_examples=1000000"]))
    believed.run()
    assert believed.folder.rounds()[-1].accuracy < 0.2


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "least"), [("witches_brew", 1.0), ("sleeper_agent", 0.45)])
def test_crafted_poisons_beat_random_changes(tmp_path, name, least):
    source = real_images.npz("cifar10", tmp_path, "--train", "10000", "--test", "2000")
    success, accuracy = [], []
    for control in ("false", "true"):
        chosen = [f"data.source=npz:{source}", f"roles.poisoning.data.control={control}"]
        federation = Federation(Scenario.load(name, chosen))
        federation.run()
        success.append(federation.folder.rounds()[-1].attack_success_rate)
        accuracy.append(federation.folder.rounds()[-1].accuracy)
    assert success[0] >= least
    assert success[1] <= least / 2
    assert abs(accuracy[0] - accuracy[1]) < 0.04


@pytest.mark.long
@pytest.mark.timeout(600)
def test_cifar10_noise_hides_and_clipping_does_not(tmp_path):
    source = real_images.npz("cifar10", tmp_path, "--train", "10000", "--test", "2000")
    attack = attacked_by("inverting-gradients", "0-4")
    federation, leakage = run("cifar10", tmp_path, [f"data.source=npz:{source}", *attack])
    median = leakage.groupby("round")[["psnr", "chance_psnr"]].median()
    assert (leakage.groupby("round").size() == 5).all()
    assert median.psnr[1] >= 35
    assert median.psnr[2] >= 35
    assert median.psnr[3] <= median.chance_psnr[3] + 2
    assert median.psnr[4] <= median.chance_psnr[4] + 3
    assert federation.ledger.protected(0) == float("inf")  # clipping alone is no protection
    assert federation.picture().axes


@pytest.mark.long
@pytest.mark.timeout(600)
def test_fashion_mnist_leaks_and_flips_from_round_3(tmp_path):
    source = real_images.npz("fashion_mnist", tmp_path, "--train", "10000", "--test", "2000")
    attack = attacked_by("inverting-gradients", "0")
    federation, leakage = run("fashion_mnist", tmp_path, [f"data.source=npz:{source}", *attack])
    median = leakage.groupby("round")[["psnr", "chance_psnr"]].median()
    assert (leakage.groupby("round").size() == 4).all()
    assert median.psnr[2] >= median.chance_psnr[2] + 6
    assert median.psnr[6] <= median.chance_psnr[6] + 2
    clients = federation.folder.table("clients")
    flipping = clients[clients["role"] == "poisoning"]
    assert set(flipping["round"]) == set(range(3, 9))
    assert set(flipping["client"]) == {10, 11}
    assert set(flipping["defenses"]) == {"none"}
    assert federation.folder.rounds()[2].accuracy > 0.6


@pytest.mark.long
@pytest.mark.timeout(600)
def test_chest_xrays_leak_until_dp_sgd(tmp_path):
    source = real_images.npz("pneumoniamnist", tmp_path)
    attack = attacked_by("inverting-gradients", "0")
    federation, leakage = run("chest_xray", tmp_path, [f"data.source=npz:{source}", *attack])
    assert not leakage["known_labels"].any()
    for row in leakage.itertuples():
        if row.round < 5:
            assert row.psnr >= 35
        else:
            assert row.psnr <= row.chance_psnr + 2
    assert 0 < federation.ledger.total(1) < 20  # protected in every round
    assert federation.ledger.total(2) == float("inf")
    assert max(row.accuracy for row in federation.folder.rounds()) > 0.7


def test_malicious_server_reads_batches_until_dp_sgd(tmp_path):
    started = time.perf_counter()
    federation, leakage = run("malicious_server", tmp_path)
    assert time.perf_counter() - started < 30
    assert set(leakage["threat"]) == {"malicious"}
    assert set(leakage["iterations"]) == {0}
    open_round, private = (leakage[leakage["round"] == number] for number in (1, 2))
    assert len(open_round) == len(private) == 16
    assert (open_round["psnr"] >= 80).sum() >= 12
    assert set(private["verdict"]) == {"not shown"}
    assert federation.picture().axes


def test_commented_scenario_fishes_a_class(tmp_path):
    text = (PACKAGED / "malicious_server.toml").read_text()
    (override,) = re.findall("--set '(.*)'", text)
    _, leakage = run("malicious_server", tmp_path, [override])
    rebuilt = leakage[leakage["psnr"].astype(float).notna() & (leakage["round"] == 1)]
    assert len(rebuilt) >= 1
    assert set(rebuilt["verdict"]) == {"leaks"}
    assert rebuilt["label_correct"].all()


def test_suppression_reads_one_client_of_a_sum(tmp_path):
    federation, leakage = run("suppression", tmp_path, ["reconstructions.0.power=false"])
    obedient, suppressed = (leakage[leakage["round"] == number] for number in (1, 2))
    assert len(obedient) == 40
    assert set(suppressed["client"]) == {3}
    assert set(suppressed["verdict"]) == {"leaks"}
    assert set(obedient["threat"]) == {"honest-but-curious"}
    assert federation.picture().axes


def test_trap_weights_read_a_sum_until_dp_sgd(tmp_path):
    federation, leakage = run("trap_weights", tmp_path, ["reconstructions.0.power=false"])
    obedient, trapped, private = (leakage[leakage["round"] == number] for number in (1, 2, 3))
    assert len(obedient) == len(trapped) == len(private) == 80
    assert (trapped["psnr"] >= 80).sum() >= 25
    before, after = ((each["verdict"] == "leaks").sum() for each in (obedient, trapped))
    assert after > 3 * before > 0
    assert set(obedient["threat"]) == {"honest-but-curious"}
    assert set(private["verdict"]) <= {"not shown", "recognisable"}
    assert federation.picture().axes


@pytest.mark.slow
def test_noise_and_gate_hide_most_updates(tmp_path):
    federation, leakage = run("defenses", tmp_path, attacked_by("fast", "0-7"))
    first = leakage[leakage["round"] == 1].set_index("client")
    assert sorted(first.index) == [0, 1, 2, 3, 4, 6, 7]
    for client in (0, 2, 4, 6, 7):
        assert first.psnr[client] >= 30, first.defenses[client]
    assert first.psnr[3] < first.psnr[0] - 20
    assert first.psnr[1] < first.chance_psnr[1]
    clients = federation.folder.table("clients")
    assert set(clients[clients["client"] == 5]["status"]) == {"withheld"}
    totals = [federation.ledger.total(client, CLIENT) for client in range(10)]
    assert [client for client, total in enumerate(totals) if total < float("inf")] == [1]
