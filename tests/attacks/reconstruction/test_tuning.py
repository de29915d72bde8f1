"""Choosing an attack's settings on surrogate victims."""

from dataclasses import replace

import pytest
import torch

from attacks.gradients import batch_gradient
from attacks.knowledge import Knowledge
from attacks.payload import Payload
from attacks.reconstruction import PRESETS, invert
from attacks.reconstruction.candidates import AROUND, candidates
from attacks.reconstruction.tuning import SurrogateVictim, tune
from fedlab.evaluation.tuning_budget import BUDGET, quality_of
from fedlab.models import build

SMOOTH = replace(PRESETS["auto"], tunes=False, tv=0.01, iterations=16)
ROUGH = replace(SMOOTH, lr=1e-6)
ANALYTIC = replace(PRESETS["analytic"], iterations=16)


def network(width=4):
    return build("convnet", shape=(1, 8, 8), classes=10, width=width, seed=0).eval()


def victim_of(model, images, labels):
    """The images, and what the attacker has of a client that sends the gradient of them."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    gradient = batch_gradient(model, parameters, {}, images, labels)
    known = Knowledge(
        image_shape=tuple(images.shape[1:]),
        num_classes=10,
        mean=(0.0,),
        std=(1.0,),
        num_images=len(labels),
        labels=labels,
        training_mode=False,
    )
    payload = Payload("gradient", gradient, num_examples=len(labels), steps=1)
    return SurrogateVictim(parameters, payload, known, quality_of(images))


def digits(count, first=0):
    """Handwritten digits of 8 pixels a side, in [0, 1], one a batch, with their labels."""
    found = pytest.importorskip("sklearn.datasets").load_digits()
    images = torch.tensor(found.images[first : first + count], dtype=torch.float32) / 16
    labels = torch.tensor(found.target[first : first + count], dtype=torch.int64)
    return zip(images[:, None, None], labels[:, None], strict=True)


@pytest.fixture(scope="module")
def victims():
    model = network()
    return model, [victim_of(model, images, labels) for images, labels in digits(2)]


def tuned(victims, tried, budget, **more):
    return tune(victims[0], victims[1], tried, budget=budget, seed=0, **more)


def test_the_better_of_two_settings_is_chosen(victims):
    found = tuned(victims, (ROUGH, SMOOTH), 2 * 4 * 4 * 16)
    assert (found.attack.lr, found.attack.iterations) == (SMOOTH.lr, 16)


def test_of_settings_that_are_about_as_good_the_more_promising_is_chosen(victims):
    alike = tuple(replace(SMOOTH, tv=SMOOTH.tv * factor) for factor in (1.0, 1.001, 0.999))
    for first in alike:
        others = tuple(one for one in alike if one != first)
        found = tuned(victims, (first, *others), 2 * 4 * 4 * 16, vary_tv=False)
        assert found.attack == first


def test_an_impossible_attack_ranks_last(victims):
    found = tuned(victims, (ANALYTIC, ROUGH), 2 * 4 * 4 * 16)
    assert found.attack.method == "optimise"
    assert any(trial.quality == float("-inf") for trial in found.trials)


@pytest.mark.parametrize("factor", [1, 4, 12])
def test_the_trials_keep_to_the_budget(victims, factor):
    tried = tuple(replace(SMOOTH, tv=10.0**-power) for power in range(9))
    found = tuned(victims, tried, factor * 16)
    least = 2 * 16 // 2  # one trial of half of the iterations on both victims
    assert 0 < found.iterations <= max(factor * 16, least)


def test_weights_around_the_best_are_tried(victims):
    found = tuned(victims, (SMOOTH, replace(ROUGH, tv=1.0)), 2 * 4 * 4 * 16)
    weights = {round(trial.attack.tv, 9) for trial in found.trials}
    assert {round(SMOOTH.tv / AROUND, 9), round(SMOOTH.tv * AROUND, 9)} <= weights


def test_a_weight_that_the_user_set_is_not_varied(victims):
    found = tuned(victims, (SMOOTH, replace(ROUGH, tv=SMOOTH.tv)), 512, vary_tv=False)
    assert {trial.attack.tv for trial in found.trials} == {SMOOTH.tv}


def test_tuning_again_gives_the_same_bits(victims):
    one, again = (tuned(victims, (SMOOTH, ROUGH), 200) for _ in range(2))
    assert one.trials == again.trials
    assert one.attack == again.attack


def test_trials_on_a_network_that_draws_follow_the_seed():
    model = build("convnet", shape=(1, 8, 8), classes=10, width=4, bottleneck=8)
    some = [victim_of(model, images, labels) for images, labels in digits(1)]
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(tuned((model, some), [SMOOTH, ROUGH], 64))
    assert found[0].trials == found[1].trials


def test_other_forms_of_the_step_are_tried(victims):
    found = tuned(victims, (SMOOTH, replace(ROUGH, tv=1.0)), 2 * 4 * 4 * 16)
    assert {trial.attack.sign for trial in found.trials} == {"none", "soft", "hard"}


@pytest.mark.slow
def test_no_preset_beats_auto_by_a_decibel():
    model, iterations = network(width=16), 100
    surrogates = [victim_of(model, images, labels) for images, labels in digits(2)]
    one = surrogates[0]
    base = replace(PRESETS["auto"], iterations=iterations)
    tried = candidates(base, one.payload, one.knowledge, sent=one.global_state, fixed={})
    chosen = tuned((model, surrogates), tried, BUDGET * iterations).attack
    others = [victim_of(model, images, labels) for images, labels in digits(6, first=100)]
    auto = mean_quality(model, others, chosen)
    for name in ("inverting-gradients", "fast", "modern", "fedavg"):
        preset = replace(PRESETS[name], iterations=iterations, features=0.0)
        assert mean_quality(model, others, preset) <= auto + 1, name


def mean_quality(model, victims, attack):
    """Mean PSNR in dB over the victims, of at most 40 dB each."""
    found = []
    for one in victims:
        seed = torch.Generator().manual_seed(1)
        images = invert(
            model, one.global_state, one.payload, one.knowledge, attack, generator=seed
        ).images
        found.append(one.quality(images))
    return sum(found) / len(found)
