"""The parts of the poisoning benchmark that its figures hang on, on tiny runs."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm

from benchmarks import poisons, rules, seed_papers
from benchmarks.crafting import GOAL, crafting
from benchmarks.poison_studies import Trials
from fedlab import BadInput, Federation, Scenario
from fedlab.data.images import ImageData
from fedlab.results.folder import RunFolder


@pytest.fixture
def images(tmp_path):
    """A folder with both files, of random images of 32 x 32 and 28 x 28."""
    drawn = np.random.default_rng(0)
    for name, side, channels in (("cifar10", 32, 3), ("fashion_mnist", 28, 1)):
        shape = (side, side, channels) if channels == 3 else (side, side)
        arrays = {}
        for part, count in (("train", 4_000), ("test", 2_000)):
            arrays[f"{part}_images"] = drawn.integers(0, 256, (count, *shape), dtype=np.uint8)
            arrays[f"{part}_labels"] = np.arange(count) % 10
        np.savez(tmp_path / f"{name}.npz", **arrays)
    return tmp_path


def test_every_cell_of_every_table_is_a_scenario_that_can_start(images):
    for study in (*poisons.STUDIES, *seed_papers.STUDIES):
        names = {arm: study.scenario(arm, 3, images, "cpu").name for arm in study.arms}
        assert len(set(names.values())) == len(study.arms)
    grey = images / "fashion_mnist.npz"
    both = [*rules.CELLS, *rules.ADDED]
    cells = [rules.scenario(cell, grey, 0, "cpu") for cell in both]
    assert len({each.name for each in cells}) == len(both)
    assert {each.server.strategy for each in cells} == set(rules.RULES)
    for rule in rules.RULES:  # a rule that cannot bear its attackers is refused here
        Federation(rules.scenario(rules.Cell("no attack", rule), grey, 0, "cpu"))


def test_no_poison_is_no_change_and_the_control_is(images):
    study = replace(poisons.BREWED, images=200, rounds=1)
    shards = {}
    for arm in ("none", "random"):
        scenario = study.scenario(arm, 3, images, "cpu")
        federation = Federation(scenario)
        federation.run()
        shards[arm] = federation.state
    plain = Federation(scenario.changed(roles=[]))
    plain.run()
    assert all(torch.equal(plain.state[n], t) for n, t in shards["none"].items())
    assert not all(torch.equal(plain.state[n], t) for n, t in shards["random"].items())


def test_wilsons_interval():
    trials = Trials([0.5], [0.5], success=[1.0] * 12 + [0.0] * 8)
    z, n, p = float(norm.ppf(0.975)), 20, 0.6
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert trials.interval == pytest.approx((centre - reach, centre + reach))
    assert str(trials) == "12 of 20 (39 to 78 %)"


def test_whom_a_rule_left_out_is_counted_by_role(tmp_path):
    scenario = Scenario(
        rounds=1,
        data={"train": 200, "test": 20, "clients": 7},
        model={"width": 4},
        server={"strategy": "Bulyan", "options": {"num_malicious_nodes": 1}},
        roles=[
            {"role": "poisoning", "clients": "6", "update": {"attack": "sign-flip", "factor": 50.0}}
        ],
    )
    run = Federation(scenario, out=tmp_path / "run").run()
    bad, good = rules._left_out(RunFolder(run.path))
    assert bad == 1.0
    assert 0 < good < 1
    open_run = Federation(scenario.changed(server={}), out=tmp_path / "open").run()
    assert rules._left_out(RunFolder(open_run.path)) is None


def test_a_step_is_timed_beside_arts(images, monkeypatch):
    pytest.importorskip("art")
    monkeypatch.setattr("benchmarks.crafting.TURNS", 1)
    monkeypatch.setattr("benchmarks.crafting.LONG", 2)
    monkeypatch.setattr("benchmarks.crafting.POISONS", 4)
    draw = torch.Generator().manual_seed(0)
    shown = torch.randint(256, (40, 3, 16, 16), generator=draw, dtype=torch.uint8)
    labels = torch.arange(40) % 10
    data = ImageData(
        "noise", shown, labels, shown, labels, tuple("0123456789"), (0.5,) * 3, (0.25,) * 3
    )
    figures, claims = crafting(data)
    assert [figure.unit for figure in figures] == ["s", "s", ""] * 2
    assert all(len(figure.values) == 1 for figure in figures)
    for ratio, claim in zip(figures[2::3], claims, strict=True):
        assert claim.holds is (ratio.values[0] >= GOAL)


def test_images_are_asked_for(tmp_path):
    from benchmarks.options import Options
    from benchmarks.poisoning import run

    with pytest.raises(BadInput, match=r"make_npz\.py cifar10"):
        run(Options(data=tmp_path))
