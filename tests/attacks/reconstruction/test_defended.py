"""An attack is re-tuned for what distorted the payload, and the re-tuned one does better."""

from dataclasses import replace

import pytest
import torch

from attacks.gradients import batch_gradient, clipped_gradient
from attacks.knowledge import Knowledge, LocalSGD
from attacks.payload import Payload
from attacks.reconstruction import PRESETS, AttackSettings, invert
from attacks.reconstruction.components import OBJECTIVES
from attacks.reconstruction.defended import ROUGHNESS, adapted, noise_deviation
from fedlab.data import load
from fedlab.data.shard import Shard
from fedlab.defenses.clip_noise import clipped, noised
from fedlab.defenses.cutmix import CutMix
from fedlab.defenses.mixup import Mixup
from fedlab.defenses.pipeline import Batch, Pipeline, PlainGradient
from fedlab.metrics.images import psnr
from fedlab.models import build
from tests.defenses.contexts import context

PLAIN = AttackSettings(iterations=200, schedule="cosine", lr=0.3)


@pytest.fixture(scope="module")
def victim():
    data = load("digits")
    model = build("convnet", shape=data.shape, classes=10, width=24, seed=3)
    pixels, labels = data.pixels(data.train_images[:1]), data.train_labels[:1]
    return data, model, pixels, labels


def knowledge(data, labels, **more):
    return Knowledge(data.shape, 10, data.mean, data.std, len(labels), labels, **more)


def rebuilt(victim, tensors, known, attack):
    _, model, pixels, _ = victim
    payload = Payload("gradient", tensors, num_examples=1, steps=1)
    found = invert(
        model,
        dict(model.named_parameters()),
        payload,
        known,
        attack,
        generator=torch.Generator().manual_seed(0),
    )
    return float(psnr(pixels, found.images)), payload


def test_an_open_update_changes_nothing(victim):
    data, model, pixels, labels = victim
    open_update = batch_gradient(
        model, dict(model.named_parameters()), {}, data.normalise(pixels), labels
    )
    payload = Payload("gradient", open_update, num_examples=1, steps=1)
    for preset in PRESETS.values():
        assert adapted(preset, payload, knowledge(data, labels)) == preset


@pytest.mark.slow
@pytest.mark.parametrize("multiplier", [0.03, 1.0])
def test_dp_sgd_weighs_match_against_noise(victim, multiplier):
    """The plain attack paints noise, the tuned one a smoother, nearer image."""
    data, model, _, _ = victim
    gains = []
    for index in range(3):
        pixels = data.pixels(data.train_images[index : index + 1])
        labels = data.train_labels[index : index + 1]
        clean = clipped_gradient(
            model,
            dict(model.named_parameters()),
            {},
            data.normalise(pixels),
            labels,
            clipping_norm=1.0,
        )
        generator = torch.Generator().manual_seed(index)
        noisy = {
            n: g + multiplier * torch.randn(g.shape, generator=generator) for n, g in clean.items()
        }
        known = knowledge(
            data, labels, defenses=("dp-sgd",), clipping_norm=1.0, noise_multiplier=multiplier
        )
        one = (data, model, pixels, labels)
        plain, payload = rebuilt(one, noisy, known, PLAIN)
        tuned, _ = rebuilt(one, noisy, known, adapted(PLAIN, payload, known))
        gains.append(tuned - plain)
    assert sum(gains) / len(gains) > 1, gains


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_noise_of_weights_is_that_of_sgd(momentum):
    steps, lr, entries = 5, 0.1, 20_000
    weights = torch.zeros(entries, requires_grad=True)
    sgd = torch.optim.SGD([weights], lr=lr, momentum=momentum)
    draws = torch.Generator().manual_seed(0)
    for _ in range(steps):
        weights.grad = torch.randn(entries, generator=draws)
        sgd.step()
    known = Knowledge(
        image_shape=(1, 1, 1),
        num_classes=2,
        mean=(0.0,),
        std=(1.0,),
        num_images=5,
        local=LocalSGD(lr, momentum=momentum),
        defenses=frozenset({"dp-sgd"}),
        clipping_norm=1.0,
        noise_multiplier=1.0,
    )
    payload = Payload("weights", {"a": weights.detach()}, num_examples=5, steps=steps)
    assert noise_deviation(payload, known) == pytest.approx(float(weights.detach().std()), rel=0.02)


def test_noise_of_weights_adds_up_over_steps(victim):
    data, _, _, labels = victim
    known = knowledge(
        data,
        labels,
        local=LocalSGD(lr=0.1, epochs=4, batch_size=1),
        defenses=("dp-sgd",),
        clipping_norm=2.0,
        noise_multiplier=0.5,
    )
    payload = Payload("weights", {"a": torch.ones(2)}, num_examples=1, steps=4)
    # Four steps of deviation 0.1 * 0.5 * 2 each.
    assert noise_deviation(payload, known) == pytest.approx(0.2)
    clips_only = knowledge(data, labels, defenses=("dp-sgd",), clipping_norm=2.0)
    assert noise_deviation(payload, clips_only) == 0


def test_pruned_update_is_compared_on_nonzeros(victim):
    data, model, pixels, labels = victim
    whole = batch_gradient(
        model, dict(model.named_parameters()), {}, data.normalise(pixels), labels
    )
    pruned = {n: g * (g.abs() >= torch.quantile(g.abs().flatten(), 0.9)) for n, g in whole.items()}
    known = knowledge(data, labels)
    plain, payload = rebuilt(victim, pruned, known, PLAIN)
    tuned = adapted(PLAIN, payload, known)
    assert tuned.mask == "nonzero"
    better, _ = rebuilt(victim, pruned, known, tuned)
    assert better > plain + 3


@pytest.mark.parametrize("defense", ["dp-instahide", "mixup", "cutmix"])
def test_labels_of_mixing_clients_are_taken_for_mixed(victim, defense):
    data, _, _, labels = victim
    payload = Payload("gradient", {"a": torch.ones(2)}, num_examples=1, steps=1)
    known = knowledge(data, labels, defenses=(defense,))
    assert adapted(PLAIN, payload, known).label_rule == "mixed"
    assert adapted(PRESETS["dlg"], payload, known).label_rule == "joint"


def test_mean_label_has_the_parts_of_mixing(victim):
    data, _, _, labels = victim
    equal = knowledge(data, labels, defenses=("dp-instahide",), mixture_size=4)
    assert equal.label_parts == 4 * len(labels)
    random = knowledge(data, labels, defenses=("dp-instahide",))
    assert random.label_parts is None
    within = knowledge(data, labels, defenses=("flip-crop", "cutmix"))
    assert within.label_parts == len(labels)


@pytest.mark.parametrize("defense", [Mixup(k=3, alpha=0.7), CutMix(probability=1.0)])
def test_labels_of_a_batch_mixed_with_itself(victim, defense):
    """Whatever the weights, the sum of the labels is a whole number of images of each class."""
    data, model, _, _ = victim
    members = torch.arange(6)
    pixels, labels = data.pixels(data.train_images[:6]), data.train_labels[:6]
    batch = Batch(members, members.unsqueeze(1), pixels, labels)
    shard = Shard(data.train_images[:6], labels, 10)
    plain = Pipeline(
        sampler=lambda: iter([members]),
        transform=lambda batch: batch,
        gradient=PlainGradient(model),
        batch_size=6,
        batches=1,
        records=6,
    )
    mixed = defense.wrap(plain, context(model, shard)).transform(batch)
    assert bool((mixed.labels % 1 > 0.01).any())
    sent = batch_gradient(
        model, dict(model.named_parameters()), {}, data.normalise(mixed.pixels), mixed.labels
    )
    known = Knowledge(data.shape, 10, data.mean, data.std, 6, defenses=(defense.name,))
    payload = Payload("gradient", sent, num_examples=6, steps=1)
    attack = adapted(replace(PLAIN, iterations=1), payload, known)
    found = invert(
        model,
        dict(model.named_parameters()),
        payload,
        known,
        attack,
        generator=torch.Generator().manual_seed(0),
    )
    torch.testing.assert_close(found.labels.sum(0), labels.bincount(minlength=10).float())


def test_few_images_average_the_noise(victim):
    data, _, _, labels = victim
    known = knowledge(
        data,
        labels,
        local=LocalSGD(lr=0.1, batch_size=32),
        defenses=("dp-sgd",),
        clipping_norm=1.0,
        noise_multiplier=1.0,
    )
    payload = Payload("weights", {"a": torch.ones(2)}, num_examples=10, steps=1)
    assert noise_deviation(payload, known) == pytest.approx(0.01)


def test_pruned_weights_show_in_their_change(victim):
    data, _, _, labels = victim
    sent = {"a": torch.linspace(1, 2, 10)}
    change = torch.zeros(10).index_fill(0, torch.tensor([3]), 0.5)
    payload = Payload("weights", {"a": sent["a"] + change}, num_examples=1, steps=1)
    known = knowledge(data, labels, local=LocalSGD(lr=0.1))
    assert adapted(PLAIN, payload, known, sent=sent).mask == "nonzero"
    assert adapted(PLAIN, payload, known).mask is None


def test_clipping_drops_priors_of_one_pass(victim):
    data, _, _, labels = victim
    payload = Payload("gradient", {"a": torch.ones(2)}, num_examples=1, steps=1)
    known = knowledge(data, labels, defenses=("dp-sgd",), clipping_norm=1.0)
    tuned = adapted(PRESETS["modern"], payload, known)
    assert (tuned.features, tuned.statistics) == (0, 0)
    assert tuned.objective == "cosine"


def clip_and_noise(victim, *, norm, deviation, seed=0):
    """An update under clip-noise, and what is known of it."""
    data, model, pixels, labels = victim
    whole = batch_gradient(
        model, dict(model.named_parameters()), {}, data.normalise(pixels), labels
    )
    noise = torch.Generator().manual_seed(seed)
    sent = noised(clipped(whole, norm), deviation=deviation, generator=noise)
    known = knowledge(
        data,
        labels,
        defenses=("clip-noise",),
        update_clipping_norm=norm,
        update_noise=deviation,
    )
    return sent, known


def test_clip_noise_match_is_squared_error(victim):
    """The two rank images alike, priors included, once what is simulated is clipped as well."""
    data, model, _, labels = victim
    sent, known = clip_and_noise(victim, norm=0.5, deviation=0.01)
    tuned = adapted(PLAIN, Payload("gradient", sent, num_examples=1, steps=1), known)
    candidates = [
        batch_gradient(
            model,
            dict(model.named_parameters()),
            {},
            data.normalise(data.pixels(data.train_images[place : place + 1])),
            labels,
        )
        for place in range(4)
    ]
    matches = [tuned.match * OBJECTIVES[tuned.objective](sent)(each) for each in candidates]
    errors = [
        sum(((t - sent[name]) ** 2).sum() for name, t in clipped(each, 0.5).items())
        for each in candidates
    ]
    for match, error in zip(matches[1:], errors[1:], strict=True):
        torch.testing.assert_close(match - matches[0], error - errors[0], rtol=1e-3, atol=1e-5)
    assert tuned.tv == pytest.approx(2 * 0.01**2 * ROUGHNESS * 64)


@pytest.mark.slow
def test_adapted_attack_is_better_under_clip_noise(victim):
    data, model, _, _ = victim
    gains = []
    for place in range(3):
        pixels = data.pixels(data.train_images[place : place + 1])
        one = (data, model, pixels, data.train_labels[place : place + 1])
        sent, known = clip_and_noise(one, norm=1.0, deviation=0.1, seed=place)
        plain, payload = rebuilt(one, sent, known, PLAIN)
        tuned, _ = rebuilt(one, sent, known, adapted(PLAIN, payload, known))
        gains.append(tuned - plain)
    assert sum(gains) / len(gains) > 0.5, gains


def test_clipping_alone_keeps_the_cosine(victim):
    data, _, _, labels = victim
    payload = Payload("gradient", {"a": torch.ones(2)}, num_examples=1, steps=1)
    known = knowledge(data, labels, defenses=("clip-noise",), update_clipping_norm=1.0)
    assert adapted(PLAIN, payload, known) == PLAIN
    assert adapted(PRESETS["dlg"], payload, known).objective == "cosine"


def test_the_noises_of_steps_and_update_add_up(victim):
    data, _, _, labels = victim
    payload = Payload("gradient", {"a": torch.ones(2)}, num_examples=1, steps=1)
    both = knowledge(data, labels, clipping_norm=1.0, noise_multiplier=0.3, update_noise=0.4)
    assert noise_deviation(payload, both) == pytest.approx(0.5)


def test_dead_units_and_inputs_are_no_pruning(victim):
    data, _, _, labels = victim
    change = torch.zeros(10, 10, 3, 3)
    change[:3, :3] = 1.0
    payload = Payload("gradient", {"a": change}, num_examples=1, steps=1)
    assert adapted(PLAIN, payload, knowledge(data, labels)).mask is None


def test_a_pruning_that_is_announced_need_not_show(victim):
    data, _, _, labels = victim
    payload = Payload("gradient", {"a": torch.ones(2)}, num_examples=1, steps=1)
    assert adapted(PLAIN, payload, knowledge(data, labels, defenses=("pruning",))).mask == "nonzero"


def test_quantisation_changes_nothing(victim):
    data, _, _, labels = victim
    payload = Payload("gradient", {"a": torch.ones(2)}, num_examples=1, steps=1)
    known = knowledge(data, labels, defenses=("quantisation",))
    assert adapted(PLAIN, payload, known) == PLAIN
