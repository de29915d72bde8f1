"""The quickstart: open rounds leak, noise hides images, and epsilon covers the whole history."""

import statistics

import numpy as np
import pytest
from opacus.accountants import RDPAccountant

from fedlab import Federation, Scenario
from fedlab.results.folder import RunFolder

# One process runs them all, since they share the run.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("quickstart"),
]

OPEN, CLIPPED_AND_NOISY, MIXED = (1, 2, 5, 6), (3, 4), (7, 8)


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    made = Federation(Scenario.load("quickstart"), out=tmp_path_factory.mktemp("quickstart"))
    made.run()
    return made


@pytest.fixture(scope="module")
def leakage(federation):
    table = federation.folder.table("leakage")
    return table[table["target"] == "original"]


def test_first_open_round_leaks(leakage):
    first = leakage[leakage["round"] == 1]
    assert len(first) == 4
    assert first["psnr"].median() >= 35
    assert set(first["verdict"]) == {"leaks"}
    assert set(first["setting"]) == {"diagnostic"}
    for known in (True, False):
        half = first[first["known_labels"] == known]
        assert half["psnr"].median() >= 35
        assert half["label_correct"].all()
        reasons = ["labels known"] * known + ["single gradient step", "untrained network"]
        assert set(half["reasons"]) == {", ".join(reasons)}


def test_dp_sgd_keeps_images_near_chance(leakage):
    protected = leakage[leakage["round"].isin(CLIPPED_AND_NOISY)]
    assert len(protected) == 8
    assert (protected["psnr"] <= protected["chance_psnr"] + 2).all()
    assert set(protected["verdict"]) == {"not shown"}


def test_mixing_hides_originals_but_not_mixtures(federation, leakage):
    hidden = leakage[leakage["round"].isin(MIXED)]
    table = federation.folder.table("leakage")
    mixed = table[(table["target"] == "mixed") & table["known_labels"]]
    assert hidden["psnr"].median() < hidden["chance_psnr"].median() + 3
    assert mixed["psnr"].median() > hidden["psnr"].median() + 6


def test_referee_rederives_the_payload(leakage):
    assert (leakage["signal_cosine"] > 0.9999).all()
    assert (leakage["payload_cosine"] > 0.9999).all()


def test_attack_works_without_the_noise(leakage):
    clipping = [{"name": "dp-sgd", "noise_multiplier": 0.0}]
    scenario = Scenario.load("quickstart").changed(defenses=clipping, rounds=1)
    clipped = Federation(scenario).step().leakage
    first = leakage[leakage["round"] == 1]
    assert [row.client for row in clipped] == first["client"].tolist()
    difference = statistics.median(row.psnr for row in clipped) - first["psnr"].median()
    assert abs(difference) <= 3


def test_total_epsilon_equals_opacus(federation):
    rows = federation.folder.table("ledger")
    protected = rows[rows["client"] == 5]
    assert len(protected) == 8
    accountant = RDPAccountant()
    # 144 images, batches of 16 drawn with q = 16/144, and 3 epochs of 9 steps in each round.
    for row in protected.itertuples():
        for _ in range(27):
            accountant.step(noise_multiplier=1.0, sample_rate=16 / 144)
        assert row.epsilon_total == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-9)
        assert row.epsilon_protected == row.epsilon_total
    once = RDPAccountant()
    once.history = [(1.0, 16 / 144, 27)]
    assert protected["epsilon_total"].iloc[-1] > 2 * once.get_epsilon(1e-5)
    others = rows[(rows["client"] != 5) & (rows["round"] == 8)]
    assert np.isinf(others["epsilon_total"]).all()


def test_model_and_backdoor_are_learned(federation):
    rounds = federation.folder.rounds()
    assert rounds[0].accuracy < 0.25
    assert rounds[-1].accuracy > 0.85
    assert rounds[-1].attack_success_rate > 0.3
    honest = Scenario.load("quickstart").changed(reconstructions=(), defenses=())
    clean = Federation(honest, out=None)
    clean.scenario = clean.scenario.changed(roles=())
    for _ in range(honest.rounds):
        last = clean.step()
    assert last.model.attack_success_rate < 0.1


def test_everything_is_in_the_folder(federation):
    folder = RunFolder.open(federation.folder.path)
    names = {path.name for path in folder.path.iterdir()}
    assert names >= {"scenario.toml", "environment.json", "rounds.jsonl", "clients.csv"}
    assert names >= {"leakage.csv", "ledger.csv", "captures", "reconstructions", "checkpoints"}
    assert len(folder.rounds()) == 9
    assert folder.size() < 10e6
    assert folder.scenario == federation.scenario
