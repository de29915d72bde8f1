"""The claims of the seed papers' benchmark, and that its defended arms are defended."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import evasion, seed_papers, step_draws
from benchmarks.options import Options
from benchmarks.poison_studies import Trials, measure
from fedlab import BadInput
from fedlab.data.images import ImageData


@pytest.fixture
def images(tmp_path):
    """A folder with random images of 32 x 32 under the name of CIFAR-10."""
    drawn = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 200), ("test", 2_000)):
        arrays[f"{part}_images"] = drawn.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        arrays[f"{part}_labels"] = np.arange(count) % 10
    np.savez(tmp_path / "cifar10.npz", **arrays)
    return tmp_path


@pytest.mark.parametrize("study", seed_papers.STUDIES)
def test_the_owner_runs_the_defenses_of_its_arm(study, images):
    runs = [study.scenario(arm, 3, images, "cpu") for arm in study.arms]
    assert len({run.changed(name="any").to_toml() for run in runs}) == len(study.arms)
    for run, arm in zip(runs, study.arms.values(), strict=True):
        assert [each.name for each in run.defenses] == [each["name"] for each in arm.defenses]
        assert all(role.runs_defenses for role in run.poisons)


def test_a_backdoor_is_measured_by_its_rate(images, tmp_path):
    study = replace(
        seed_papers.AUGMENTED,
        images=200,
        rounds=1,
        width=4,
        arms={"none": seed_papers.AUGMENTED.arms["none"]},
    )
    found = measure([study], images, tmp_path / "kept", device="cpu", processes=1, trials=2)
    trials = found[study.name, "none"]
    assert len(trials.success) == 2
    assert not trials.margin
    assert [figure.name.rpartition(": ")[2] for figure in trials.figures("x")] == [
        "accuracy",
        "success",
    ]


def _targeted(hits: int, accuracy: float = 0.5) -> Trials:
    return Trials([accuracy] * 10, [accuracy] * 10, [1.0] * hits + [0.0] * (10 - hits))


@pytest.mark.parametrize(
    ("hits", "holds"), [((9, 0, 5, 5), True), ((9, 7, 7, 8), False), ((9, 1, 1, 0), False)]
)
def test_a_defense_has_to_beat_random_changes(hits, holds):
    name, arms = seed_papers.ADVERSARIAL.name, seed_papers.ADVERSARIAL.arms
    found = {(name, arm): _targeted(n) for arm, n in zip(arms, hits, strict=True)}
    assert seed_papers._stopped(found).holds is holds


@pytest.mark.parametrize(
    ("success", "accuracy", "holds"), [(0.4, 0.49, True), (0.6, 0.49, False), (0.4, 0.4, False)]
)
def test_mixing_has_to_halve_a_backdoor_cheaply(success, accuracy, holds):
    name, mixed = seed_papers.AUGMENTED.name, Trials([accuracy], [accuracy], [success])
    found = dict.fromkeys(((name, arm) for arm in seed_papers.AUGMENTED.arms), mixed)
    found[name, "none"] = Trials([0.5], [0.5], [1.0])
    assert [claim.holds for claim in seed_papers._sanitised(name, found)] == [holds, holds]


def test_an_attack_that_changes_nothing_is_weaker_than_pgd(monkeypatch):
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 2
    # Stripes that PGD erases: they are less than epsilon apart.
    shown = torch.full((60, 1, 28, 28), 128, dtype=torch.uint8)
    shown[labels == 1, :, ::2] = 138
    shown += torch.randint(0, 2, shown.shape, generator=draw, dtype=torch.uint8)
    data = ImageData("stripes", shown, labels, shown, labels, ("0", "1"), (0.5,), (0.1,))
    monkeypatch.setattr(evasion, "EPOCHS", 2)
    monkeypatch.setattr(
        step_draws,
        "trained",
        lambda *given, adversarial: evasion.trained(*given, adversarial=False),
    )
    monkeypatch.setattr(
        step_draws,
        "ATTACKS",
        {"PGD": step_draws.pgd, "nothing": lambda logits, pixels, labels, **settings: pixels},
    )
    figures, (claim,) = step_draws.step_draws(data, range(1))
    assert claim.text.startswith("nothing leaves")
    assert "more accuracy than PGD" in claim.text
    assert not claim.holds
    assert len(figures) == 1 + 2 * len(evasion.ITERATIONS) * len(evasion.STEPS)


def test_images_are_asked_for(tmp_path):
    with pytest.raises(BadInput, match=r"make_npz\.py cifar10"):
        seed_papers.run(Options(data=tmp_path))
