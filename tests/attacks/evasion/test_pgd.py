"""Tests of PGD and WITCHcraft."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from attacks.evasion.pgd import pgd
from attacks.evasion.step_sizes import Uniform
from attacks.evasion.witchcraft import witchcraft
from tests.attacks import digits


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network(*, norm=False, seed=0):
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3) if norm else nn.Identity(), nn.Tanh()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(3 * 16, 4)).eval()


def batch(n=5, seed=1):
    """Pixels with many at the border of the box."""
    wide = torch.rand(n, 1, 6, 6, generator=seeded(seed)) * 1.4 - 0.2
    return wide.clamp(0, 1), torch.randint(4, (n,), generator=seeded(seed + 1))


def losses(logits, pixels, labels):
    with torch.no_grad():
        return functional.cross_entropy(logits(pixels), labels, reduction="none")


@settings(deadline=None, max_examples=40)
@given(
    epsilon=st.floats(0, 0.6),
    step=st.floats(0, 0.5),
    iterations=st.integers(0, 4),
    attack=st.sampled_from([pgd, witchcraft]),
    start=st.sampled_from(["random", "clean"]),
    targeted=st.booleans(),
    seed=st.integers(0, 9),
)
def test_pgd_stays_within_epsilon_and_pixel_range(
    epsilon, step, iterations, attack, start, targeted, seed
):
    pixels, labels = batch(seed=seed)
    before = pixels.clone()
    found = attack(
        network(),
        pixels,
        labels,
        epsilon=epsilon,
        step=step,
        iterations=iterations,
        generator=seeded(seed),
        start=start,
        targeted=targeted,
    )
    assert torch.equal(pixels, before)
    assert found.shape == pixels.shape
    assert found.dtype == pixels.dtype
    assert float((found - pixels).abs().max()) <= epsilon + 1e-6
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1


@pytest.mark.parametrize("targeted", [False, True])
def test_one_step_is_fgsm(targeted):
    model, (pixels, labels) = network().double(), batch()
    leaf = pixels.double().requires_grad_()
    functional.cross_entropy(model(leaf), labels).backward()
    sign = -1 if targeted else 1
    expected = (leaf.detach() + sign * 0.07 * leaf.grad.sign()).clamp(0, 1)
    found = pgd(
        model,
        pixels.double(),
        labels,
        epsilon=0.07,
        step=0.07,
        iterations=1,
        generator=seeded(),
        start="clean",
        targeted=targeted,
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_two_steps_match_manual_computation():
    """They leave the ball or the box here and there, and are put back."""
    model, (pixels, labels) = network().double(), batch()
    pixels = pixels.double()
    sizes = [torch.tensor([0.01, 0.02, 0.03, 0.04, 0.05]), torch.full((5,), 0.04)]
    noise = torch.rand(pixels.shape, generator=seeded(3), dtype=torch.float64)
    expected = (pixels + 0.05 * (2 * noise - 1)).clamp(0, 1)
    left = False
    for size in sizes:
        leaf = expected.clone().requires_grad_()
        functional.cross_entropy(model(leaf), labels).backward()
        moved = expected + size.double().view(-1, 1, 1, 1) * leaf.grad.sign()
        expected = (pixels + (moved - pixels).clamp(-0.05, 0.05)).clamp(0, 1)
        left = left or bool((moved != expected).any())
    assert left
    drawn = iter(sizes)

    def given(step, shape, *, generator):
        assert step == 0.9
        assert shape == pixels.shape
        return next(drawn).double().view(-1, 1, 1, 1)

    found = pgd(
        model,
        pixels,
        labels,
        epsilon=0.05,
        step=0.9,
        iterations=2,
        generator=seeded(3),
        sizes=given,
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("each", ["image", "pixel"])
def test_witchcraft_without_spread_equals_pgd(each):
    model, (pixels, labels) = network(), batch()
    options = {"epsilon": 0.1, "step": 0.03, "iterations": 7}
    fixed = pgd(model, pixels, labels, generator=seeded(5), **options)
    quiet = witchcraft(model, pixels, labels, generator=seeded(5), spread=0.0, each=each, **options)
    spread = witchcraft(model, pixels, labels, generator=seeded(5), each=each, **options)
    assert torch.equal(quiet, fixed)
    assert not torch.equal(spread, fixed)
    same = pgd(model, pixels, labels, generator=seeded(5), sizes=Uniform(1.0, each), **options)
    assert torch.equal(spread, same)


def test_random_start_is_uniform_in_the_ball():
    pixels, labels = torch.full((400, 1, 6, 6), 0.5), torch.zeros(400, dtype=torch.int64)
    options = {"epsilon": 0.2, "step": 0.0, "iterations": 0}
    found = pgd(network(), pixels, labels, generator=seeded(), **options)
    change = (found - pixels).flatten()
    assert abs(float(change.mean())) < 0.005
    assert float(change.std()) == pytest.approx(0.2 / 3**0.5, rel=0.02)
    clean = pgd(network(), pixels, labels, generator=seeded(), start="clean", **options)
    assert torch.equal(clean, pixels)


def test_network_and_graph_are_unaffected():
    model, (pixels, labels) = network(norm=True), batch()
    pixels.requires_grad_()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        found = pgd(model, pixels, labels, epsilon=0.1, step=0.03, iterations=3, generator=seeded())
    assert not found.requires_grad
    assert found.grad_fn is None
    assert pixels.grad is None
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("attack", [pgd, witchcraft])
def test_same_generator_gives_the_same_result(attack):
    model, (pixels, labels) = network(), batch()

    def found(seed):
        options = {"epsilon": 0.1, "step": 0.03, "iterations": 3}
        return attack(model, pixels, labels, generator=seeded(seed), **options)

    assert torch.equal(found(1), found(1))
    assert not torch.equal(found(1), found(2))


@pytest.mark.parametrize("attack", [pgd, witchcraft])
def test_empty_batch_is_accepted(attack):
    pixels, labels = batch(0)
    options = {"epsilon": 0.1, "step": 0.03, "iterations": 2}
    found = attack(network(), pixels, labels, generator=seeded(), **options)
    assert found.shape == (0, 1, 6, 6)


@pytest.mark.parametrize("wrong", [{"epsilon": -0.1}, {"step": -0.1}, {"iterations": -1}])
def test_negative_settings_are_refused(wrong):
    pixels, labels = batch()
    options = {"epsilon": 0.1, "step": 0.03, "iterations": 2} | wrong
    with pytest.raises(ValueError, match="cannot be negative"):
        pgd(network(), pixels, labels, generator=seeded(), **options)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_pixels_out_of_range_are_refused(value):
    pixels, labels = batch()
    pixels[2, 0, 1, 1] = value
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        pgd(network(), pixels, labels, epsilon=0.1, step=0.1, iterations=1, generator=seeded())


@pytest.fixture(scope="module")
def victim():
    images, labels, test_images, test_labels = digits.split()
    return digits.trained(images, labels), test_images / 255, test_labels


@pytest.mark.parametrize("attack", [pgd, witchcraft])
def test_pgd_beats_noise_of_the_same_size(victim, attack):
    model, pixels, labels = victim
    epsilon = 0.15
    generator = seeded()
    # Batch by batch with one generator, as a test set is attacked.
    found = torch.cat(
        [
            attack(
                model,
                pixels[part],
                labels[part],
                epsilon=epsilon,
                step=epsilon / 4,
                iterations=10,
                generator=generator,
            )
            for part in torch.arange(len(labels)).split(200)
        ]
    )
    signs = torch.randint(2, pixels.shape, generator=seeded(1)) * 2 - 1
    noisy = (pixels + epsilon * signs).clamp(0, 1)
    clean = digits.accuracy(model, pixels, labels)
    assert clean > 0.95
    assert digits.accuracy(model, noisy, labels) > clean - 0.1
    assert digits.accuracy(model, found, labels) < clean - 0.5
    assert (
        float((losses(model, found, labels) > losses(model, pixels, labels)).float().mean()) > 0.95
    )


@pytest.mark.parametrize("attack", [pgd, witchcraft])
def test_targeted_pgd_reaches_the_target_class(victim, attack):
    model, pixels, labels = victim
    wanted = (labels + 1) % 10
    found = attack(
        model,
        pixels,
        wanted,
        epsilon=0.3,
        step=0.06,
        iterations=10,
        generator=seeded(),
        targeted=True,
    )
    assert digits.accuracy(model, pixels, wanted) < 0.05
    assert digits.accuracy(model, found, wanted) > 0.6
