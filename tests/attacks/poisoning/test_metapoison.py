"""Tests of MetaPoison on handwritten digits."""

from dataclasses import replace

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from attacks.knowledge import LocalSGD
from attacks.poisoning.colour import Colour
from attacks.poisoning.ensemble import Recorded, Staggered, record
from attacks.poisoning.meta_loss import margin
from attacks.poisoning.meta_settings import MetaPoisoning
from attacks.poisoning.metapoison import craft, meta_poison
from attacks.poisoning.perturbation import Perturbation
from attacks.poisoning.pixel_levels import whole_levels
from attacks.poisoning.surrogate import Surrogate

EPSILON = 32 / 255
SETTINGS = MetaPoisoning(
    epsilon=EPSILON,
    crafts=8,
    rate=1.0,
    warmup=0,
    models=3,
    epochs=9,
    lr=0.5,
    batch_size=100,
    poisons_per_batch=40,
)
TARGET, INTENDED = 4, 9


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def digits():
    """Images and labels to train on, which of them may be poisons, and the target."""
    source = load_digits()
    images = torch.from_numpy(source.images * 255 / 16).round().to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(source.target).long()
    targets = images[1000:][labels[1000:] == TARGET][:1]
    places = (labels[:1000] == INTENDED).nonzero().squeeze(1)[:40]
    return images[:1000], labels[:1000], places, targets


def start(number):
    with torch.random.fork_rng():
        torch.manual_seed(number)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    return Surrogate(model, dict(model.named_parameters()), {}, lambda pixels: 2 * pixels - 1)


def poisoned(settings=SETTINGS, *, seed=0):
    images, labels, places, targets = digits()
    return meta_poison(
        start,
        images,
        labels,
        places=places,
        targets=targets,
        intended=torch.tensor([INTENDED]),
        settings=settings,
        generator=seeded(seed),
    )


def victims(images, *, count=4, epochs=8):
    """Adversarial loss of networks that start from weights that no surrogate had."""
    _, labels, _, targets = digits()
    pixels = images.float() / 255
    losses = []
    for number in range(count):
        ensemble = Staggered(
            lambda _, number=number: start(1000 + number),
            pixels,
            labels,
            models=1,
            epochs=epochs + 1,
            local=LocalSGD(0.5, batch_size=100),
            advance=epochs * 10,
            generator=seeded(100 + number),
        )
        ensemble.advance(pixels)
        said = ensemble.surrogates[0].logits(targets.float() / 255)
        losses.append(float(margin(said, torch.tensor([INTENDED]))))
    return sum(losses) / count


def control(made):
    """The same size of change of every value, up or down at random."""
    images, _, places, _ = digits()
    change = (made.images.int() - images[places].int()).abs()
    signs = 2 * torch.randint(2, change.shape, generator=seeded(7), dtype=torch.int32) - 1
    noisy = images.clone()
    noisy[places] = (images[places].int() + signs * change).clamp(0, 255).to(torch.uint8)
    return noisy


def test_new_victims_fall_more_than_by_random_noise():
    made = poisoned()
    attacked, noisy = victims(made.into(digits()[0])), victims(control(made))
    assert attacked < noisy - 1


def test_meta_loss_falls_for_fixed_surrogates():
    images, labels, places, targets = digits()
    ensemble = Staggered(
        start,
        images.float() / 255,
        labels,
        models=3,
        epochs=9,
        local=SETTINGS.local,
        generator=seeded(),
    )
    made = craft(
        Recorded([ensemble.surrogates]),
        images,
        labels,
        places=places,
        targets=targets,
        intended=torch.tensor([INTENDED]),
        settings=SETTINGS,
        generator=seeded(),
    )
    assert float(made.losses[-1]) < float(made.losses[0]) - 0.2
    assert torch.equal(made.before, made.before[:1].expand(SETTINGS.crafts))


SMALL = replace(SETTINGS, crafts=2, models=2, epochs=2, poisons_per_batch=20)


@pytest.mark.parametrize("epsilon", [1 / 255, 8 / 255, 0.05])
def test_only_poisons_change_within_epsilon(epsilon):
    images, labels, places, _ = digits()
    made = poisoned(replace(SMALL, epsilon=epsilon))
    assert made.images.dtype == torch.uint8
    change = (made.images.int() - images[places].int()).abs()
    assert 0 < int(change.max()) <= 255 * epsilon + 1e-6
    assert torch.equal(made.labels, labels[places])
    everything = made.into(images)
    assert torch.equal(everything[places], made.images)
    rest = torch.ones(len(images), dtype=torch.bool)
    rest[places] = False
    assert torch.equal(everything[rest], images[rest])
    assert torch.equal(images, digits()[0])


def test_colour_change_exceeds_epsilon():
    images, _, places, _ = digits()
    made = poisoned(replace(SMALL, epsilon=4 / 255, colour=Colour(bound=0.04, smoothness=0.0)))
    change = (made.images.int() - images[places].int()).abs()
    assert 4 < int(change.max()) <= 4 + 255 * 0.04 + 1


def test_same_generator_gives_the_same_result():
    one, again, other = poisoned(SMALL), poisoned(SMALL), poisoned(SMALL, seed=1)
    assert torch.equal(one.images, again.images)
    assert torch.equal(one.losses, again.losses)
    assert not torch.equal(one.images, other.images)


def test_unrolled_steps_change_only_the_poisons():
    one, two = poisoned(replace(SMALL, unrolled=1)), poisoned(SMALL)
    assert not torch.equal(one.images, two.images)
    torch.testing.assert_close(one.before, two.before)


@pytest.mark.parametrize(
    "options",
    [
        {"signed": True},
        {"loss": "cross-entropy"},
        {"first_only": False},
        {"trajectory": "poisoned"},
        {"looks": 1},
        {"staggered": False},
        {"advance": 3},
    ],
    ids=str,
)
def test_every_option_has_an_effect(options):
    assert not torch.equal(poisoned(replace(SMALL, **options)).images, poisoned(SMALL).images)


def test_recorded_ensemble_gives_the_same_poisons():
    images, labels, places, targets = digits()
    generator = seeded()
    apart = seeded(int(torch.randint(2**62, (), generator=generator)))
    pixels = images.float() / 255
    ensemble = Staggered(
        start, pixels, labels, models=2, epochs=2, local=SMALL.local, generator=apart
    )
    made = craft(
        Recorded(record(ensemble, pixels, steps=2)),
        images,
        labels,
        places=places,
        targets=targets,
        intended=torch.tensor([INTENDED]),
        settings=SMALL,
        generator=generator,
    )
    assert torch.equal(made.images, poisoned(SMALL).images)


def test_rate_schedule_warms_up_and_drops():
    settings = MetaPoisoning()
    rates = [settings.rate_at(step) for step in (0, 4, 20, 21, 40, 41, 60)]
    assert rates == pytest.approx([1, 25, 25, 2.5, 2.5, 0.25, 0.25])


@pytest.mark.parametrize("colour", [None, Colour(resolution=4)])
def test_perturbation_moves_down_the_gradient(colour):
    bases = torch.full((2, 3, 4, 4), 128, dtype=torch.uint8)
    perturbation = Perturbation(bases, epsilon=8 / 255, colour=colour, generator=seeded())
    for _ in range(4):
        pixels = perturbation.pixels()
        perturbation.move(pixels, torch.ones_like(pixels), rate=1.0)
    moved = perturbation.rounded().int() - 128
    if colour is None:
        assert (moved == -8).all()
    else:
        assert (moved < -8).any()
        # Blue is Y + 2.03 U.
        assert int(moved.abs().max()) <= 8 + 255 * 0.04 * (1 + 2.04) + 1


def test_value_can_return_from_the_border():
    bases = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    perturbation = Perturbation(bases, epsilon=8 / 255, generator=seeded())
    for direction, expected in ((1.0, [0, 247]), (-1.0, [8, 255])):
        for _ in range(12):
            pixels = perturbation.pixels()
            perturbation.move(pixels, torch.full_like(pixels, direction), rate=1.0)
        assert perturbation.rounded().flatten().tolist() == expected


def test_whole_levels_are_those_of_uint8():
    assert [whole_levels(k / 255) for k in range(256)] == list(range(256))


@pytest.mark.parametrize(
    "options",
    [{"epsilon": 0.001}, {"crafts": 0}, {"looks": 0}, {"rate": 0.0}, {"poisons_per_batch": 126}],
    ids=str,
)
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=r"MetaPoison|epsilon|fit|rate"):
        MetaPoisoning(**options)


def test_nothing_to_poison_is_refused():
    images, labels, _, targets = digits()
    with pytest.raises(ValueError, match="at least one poison"):
        craft(
            Recorded([[start(0)]]),
            images,
            labels,
            places=torch.tensor([], dtype=torch.int64),
            targets=targets,
            intended=torch.tensor([INTENDED]),
            settings=SMALL,
            generator=seeded(),
        )
