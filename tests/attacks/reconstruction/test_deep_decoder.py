"""Images from an untrained generator: sizes, range, what it learns first, and an attack with it."""

from dataclasses import replace

import pytest
import torch

from attacks.gradients import batch_gradient
from attacks.knowledge import Knowledge
from attacks.payload import Payload
from attacks.reconstruction import PRESETS, invert
from attacks.reconstruction.candidates import STEPS, candidates
from attacks.reconstruction.components import PARAMETRISATIONS, name_of
from attacks.reconstruction.deep_decoder import DeepDecoder
from attacks.reconstruction.parametrisations import Pixels
from attacks.reconstruction.problem import EarlierUpdate, Problem
from benchmarks.decoder import with_noise
from benchmarks.victims import Victim
from fedlab.data.photographs import photograph_crops
from fedlab.evaluation.attack_trace import AttackTrace
from fedlab.metrics.images import psnr
from fedlab.models import build

SIDE = 16
PRESET = PRESETS["deep-decoder"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def victim(images=None, *, noise=0.0, **known):
    """What an attacker has of a client whose gradient of some images carries noise."""
    images = torch.rand(2, 3, SIDE, SIDE, generator=seeded()) if images is None else images
    model = build("convnet", shape=tuple(images.shape[1:]), classes=10, width=16, seed=0).eval()
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    labels = torch.arange(len(images))
    gradient = batch_gradient(model, parameters, {}, (images - 0.5) / 0.25, labels)
    knowledge = Knowledge(
        image_shape=tuple(images.shape[1:]),
        num_classes=10,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        num_images=len(images),
        labels=labels,
        training_mode=False,
        **known,
    )
    sent = with_noise(gradient, noise, seeded(1)) if noise else gradient
    payload = Payload("gradient", dict(sent), num_examples=len(images), steps=1)
    return Victim(model, images, labels, payload, knowledge)


def decoder(count=2, height=SIDE, width=SIDE, seed=0):
    first = torch.zeros(count, 3, height, width)
    one = victim()
    problem = Problem.of(one.model, one.state, one.payload, one.knowledge)
    return DeepDecoder(first, problem, PRESET, seeded(seed))


def inverted(given, attack, **options):
    return invert(
        given.model,
        given.state,
        given.payload,
        given.knowledge,
        attack,
        generator=seeded(),
        **options,
    )


@pytest.mark.parametrize(("height", "width"), [(3, 3), (8, 8), (28, 28), (30, 45)])
def test_images_of_any_size_lie_within_the_pixel_range(height, width):
    made = decoder(3, height, width)
    with torch.no_grad():
        made.leaves[-1].fill_(100.0)  # all pixels as bright as possible
    images = made(made.leaves)
    assert images.shape == (3, 3, height, width)
    assert torch.allclose(images, torch.full_like(images, 2.0))  # (1 - 0.5) / 0.25


def test_each_image_has_weights_of_its_own():
    made = decoder()
    before = made(made.leaves).detach()
    for leaf in made.leaves:
        with torch.no_grad():
            leaf[0] += torch.rand(leaf[0].shape, generator=seeded())
    after = made(made.leaves)
    assert torch.equal(before[1], after[1])
    assert not torch.equal(before[0], after[0])


def test_equal_seeds_give_equal_images():
    first, same, other = (made(made.leaves) for made in (decoder(seed=s) for s in (0, 0, 1)))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_shapes_are_learned_before_noise():
    def left(target):
        """Share of the variance of an image that the decoder has not learned in 40 steps."""
        made = decoder(1, 32, 32)
        adam = torch.optim.Adam(made.leaves, lr=PRESET.lr)
        for _ in range(40):
            adam.zero_grad()
            loss = (made(made.leaves) - target).square().mean()
            loss.backward()
            adam.step()
        return float(loss.detach()) / float(target.var())

    photograph = (photograph_crops((3, 32, 32), 1, seeded()) - 0.5) / 0.25
    noise = torch.rand(1, 3, 32, 32, generator=seeded()) * 4 - 2
    assert left(photograph) < 0.15
    assert left(noise) > 0.75


def test_it_finds_more_than_pixels_in_a_noisy_gradient():
    images = photograph_crops((3, 32, 32), 2, seeded())
    given = victim(images, noise=0.5)
    pixels = replace(PRESETS["fast"], iterations=100)
    best = max(
        float(psnr(images, inverted(given, replace(pixels, tv=tv, **form)).images).mean())
        for tv in (0.03, 0.1, 0.3)
        for form in (STEPS["plain"], STEPS["smooth"])
    )
    found = inverted(given, replace(PRESET, iterations=100))
    assert float(psnr(images, found.images).mean()) > best + 1


def test_restarts_start_from_other_weights():
    given, trace = victim(), AttackTrace(at={3})
    attack = replace(PRESET, iterations=3, restarts=2)
    both = inverted(given, attack, watch=trace)
    first, second = (look.images for look in trace.looks if look.iteration == 3)
    assert float((first - second).abs().mean()) > 0.01
    assert torch.equal(both.images, inverted(given, attack, workers=2).images)


def test_rounds_are_attacked_jointly():
    given = victim()
    earlier = [EarlierUpdate(given.state, given.payload, given.knowledge)]
    found = inverted(given, replace(PRESET, iterations=3), earlier=earlier)
    assert found.rounds == 2


@pytest.mark.parametrize("trace", [AttackTrace(), AttackTrace(at=range(1, 99))])
def test_a_watch_sees_both_searches(trace):
    found = inverted(victim(), replace(PRESET, iterations=9), watch=trace)
    seen = [look.iteration for look in trace.looks]
    assert len(found.costs) == 9
    assert seen[0] == 1
    assert seen[-1] == 9
    assert len(set(seen)) == len(seen) > 4


def test_labels_may_be_searched_for_as_well():
    given = victim()
    given = replace(given, knowledge=replace(given.knowledge, labels=None))
    found = inverted(given, replace(PRESET, iterations=3, label_rule="joint"))
    assert found.labels.shape == (2, 10)


@pytest.mark.parametrize(
    "change",
    [
        {"sign": "hard"},
        {"smoothing": 1.0},
        {"chroma": 0.5},
        {"langevin": 0.1},
        {"optimiser": "l-bfgs"},
    ],
)
def test_forms_of_the_gradient_of_pixels_are_refused(change):
    with pytest.raises(ValueError, match='need parametrisation = "pixels"'):
        replace(PRESET, **change)


def test_it_begins_with_given_images():
    images = photograph_crops((3, 32, 32), 2, seeded())
    found = inverted(victim(images), replace(PRESET, iterations=1), initial_images=images)
    assert float(psnr(images, found.images).min()) > 20


def test_a_generator_begins_with_what_a_search_for_pixels_found():
    seen = []

    def kept(first, *more):
        seen.append(first)
        return Pixels(first, *more)

    images = photograph_crops((3, 32, 32), 2, seeded())
    given = victim(images)
    inverted(given, replace(PRESET, parametrisation=kept, iterations=90))
    pixels = replace(PRESET, parametrisation="pixels", **STEPS["smooth"])
    searched = inverted(given, replace(pixels, iterations=30)).images
    assert torch.allclose(seen[0] * 0.25 + 0.5, searched, atol=1e-5)


def test_names():
    assert PARAMETRISATIONS["deep-decoder"] is DeepDecoder
    assert name_of(PRESET.parametrisation) == "deep-decoder"
    with pytest.raises(ValueError, match="parametrisation is none of pixels, deep-decoder"):
        replace(PRESET, parametrisation="gan")


class TestCandidates:
    """Where ``auto`` tries the decoder."""

    def tried(self, fixed=None, **known):
        given = victim(**known)
        found = candidates(
            PRESETS["auto"],
            given.payload,
            given.knowledge,
            sent=given.state,
            fixed=fixed or {},
        )
        return [one.parametrisation for one in found]

    def test_second_under_noise(self):
        known = {"update_noise": 0.01, "update_clipping_norm": 1.0, "defenses": {"clip-noise"}}
        assert self.tried(**known)[:3] == ["pixels", "deep-decoder", "pixels"]

    def test_forms_take_turns_under_dp_sgd(self):
        known = {"noise_multiplier": 1.0, "clipping_norm": 1.0, "defenses": {"dp-sgd"}}
        assert self.tried(**known)[:6] == ["pixels", "deep-decoder"] * 3

    def test_last_on_exact_updates(self):
        tried = self.tried()
        assert tried.count("deep-decoder") == 1
        assert "deep-decoder" not in tried[:10]

    def test_not_where_the_user_set_a_form_of_the_step(self):
        assert "deep-decoder" not in self.tried({"sign": "soft"})

    def test_not_where_the_user_set_the_step_size_of_pixels(self):
        assert "deep-decoder" not in self.tried({"lr": 0.3})
