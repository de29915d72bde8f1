"""Tests of backdoor triggers, pixel by pixel against numpy."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.poisoning.triggers import (
    NARROW_BARS,
    WIDE_BARS,
    BarLayout,
    bars,
    blend,
    noise_pattern,
    sinusoid,
    stamp,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0):
    return torch.randint(256, shape, generator=seeded(seed), dtype=torch.uint8)


def black(*shape):
    return torch.zeros(shape, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("corner", "rows", "columns"),
    [
        ("top-left", slice(0, 2), slice(0, 2)),
        ("top-right", slice(0, 2), slice(6, 8)),
        ("bottom-left", slice(6, 8), slice(0, 2)),
        ("bottom-right", slice(6, 8), slice(6, 8)),
    ],
)
def test_stamp_in_every_corner(corner, rows, columns):
    stamped = stamp(black(1, 3, 8, 8), size=2, corner=corner)
    assert int((stamped == 255).sum()) == 3 * 4
    assert (stamped[..., rows, columns] == 255).all()


@pytest.mark.parametrize("size", [1, 3, 8])
def test_stamp_is_bottom_right_by_default(size):
    images = noise(2, 1, 8, 8)
    stamped = stamp(images, size=size)
    assert (stamped[..., -size:, -size:] == 255).all()
    assert torch.equal(stamped[..., :-size, :], images[..., :-size, :])
    assert torch.equal(stamped[..., :, :-size], images[..., :, :-size])


@pytest.mark.parametrize("size", [0, 9])
def test_stamp_too_large_is_refused(size):
    with pytest.raises(ValueError, match="does not fit"):
        stamp(black(1, 1, 8, 8), size=size)


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.5, 1.0])
def test_blend_matches_numpy(alpha):
    images, pattern = noise(5, 3, 6, 7), noise_pattern((3, 6, 7), generator=seeded(1))
    expected = (1 - alpha) * images.numpy().astype(float) + alpha * pattern.numpy()
    found = blend(images, pattern=pattern, alpha=alpha)
    assert found.dtype == torch.uint8
    assert np.abs(found.numpy() - expected).max() < 0.5 + 1e-4


def test_noise_pattern_is_uniform_and_seeded():
    pattern = noise_pattern((3, 100, 100), generator=seeded())
    assert pattern.dtype == torch.uint8
    assert torch.equal(pattern, noise_pattern((3, 100, 100), generator=seeded()))
    assert not torch.equal(pattern, noise_pattern((3, 100, 100), generator=seeded(1)))
    counts = torch.bincount(pattern.flatten().long(), minlength=256).double()
    expected = 30_000 / 256
    # Chi-squared of 255 degrees of freedom has mean 255 and deviation 22.6.
    assert 170 < float((counts - expected).square().sum() / expected) < 340


@pytest.mark.parametrize("shape", [(1, 6, 7), (3, 7, 6), (3, 6, 6)])
def test_pattern_of_wrong_shape_is_refused(shape):
    with pytest.raises(ValueError, match="does not fit"):
        blend(noise(2, 3, 6, 7), pattern=black(*shape), alpha=0.2)


@pytest.mark.parametrize("alpha", [0.0, -0.1, 1.1])
def test_blend_weight_out_of_range_is_refused(alpha):
    with pytest.raises(ValueError, match="weight"):
        blend(noise(2, 1, 6, 7), pattern=black(1, 6, 7), alpha=alpha)


@pytest.mark.parametrize("width", [8, 28, 32])
@pytest.mark.parametrize("frequency", [1, 2.5, 6])
@pytest.mark.parametrize("units", [5, 20, 255])
def test_sinusoid_matches_numpy(width, frequency, units):
    images = noise(4, 3, 9, width)
    wave = units * np.sin(2 * np.pi * np.arange(width) * frequency / width)
    expected = np.clip(images.numpy() + wave, 0, 255)
    found = sinusoid(images, amplitude=units / 255, frequency=frequency)
    assert found.dtype == torch.uint8
    assert np.abs(found.numpy() - expected).max() <= 0.5 + 1e-9


@settings(deadline=None, max_examples=60)
@given(
    amplitude=st.floats(1 / 255, 1),
    frequency=st.floats(0.3, 6.7),
    seed=st.integers(0, 99),
)
def test_sinusoid_stays_within_its_amplitude(amplitude, frequency, seed):
    images = noise(2, 1, 3, 15, seed=seed)
    change = sinusoid(images, amplitude=amplitude, frequency=frequency).int() - images.int()
    assert int(change.abs().max()) <= 255 * amplitude + 1e-5


@pytest.mark.parametrize("units", range(1, 256))
def test_sinusoid_reaches_its_amplitude(units):
    images = torch.full((1, 1, 1, 8), 0, dtype=torch.uint8)
    assert int(sinusoid(images, amplitude=units / 255, frequency=2).max()) == units


@pytest.mark.parametrize(("amplitude", "frequency"), [(0.3 / 255, 2), (0.1, 4), (0.1, 0), (0.1, 8)])
def test_sinusoid_without_effect_is_refused(amplitude, frequency):
    with pytest.raises(ValueError, match="changes no pixel"):
        sinusoid(noise(1, 1, 8, 8), amplitude=amplitude, frequency=frequency)


@pytest.mark.parametrize("amplitude", [0.0, -0.1, 20.0])
def test_amplitude_out_of_range_is_refused(amplitude):
    with pytest.raises(ValueError, match="amplitude"):
        sinusoid(noise(1, 1, 8, 8), amplitude=amplitude, frequency=2)


def by_hand(size, bar_rows, bar_columns, length):
    parts = []
    for row in bar_rows:
        for column in bar_columns:
            part = np.zeros((size, size), bool)
            part[row, column : column + length] = True
            parts.append(part)
    return parts


@pytest.mark.parametrize(
    ("size", "parts"),
    [
        (28, by_hand(28, (0, 3), (0, 6), 4)),
        (32, by_hand(32, (0, 4), (0, 9), 6)),
        (64, by_hand(64, (0, 4), (0, 9), 6)),
    ],
)
def test_bars_are_placed_as_in_the_paper(size, parts):
    images = noise(2, 3, size, size).clamp(max=200)
    for part, place in enumerate(parts):
        found = bars(images, part=part).numpy()
        assert (found[..., place] == 255).all()
        assert (found[..., ~place] == images.numpy()[..., ~place]).all()
    union = bars(images).numpy()
    place = np.logical_or.reduce(parts)
    assert place.sum() == sum(part.sum() for part in parts)
    assert (union[..., place] == 255).all()
    assert (union[..., ~place] == images.numpy()[..., ~place]).all()


@pytest.mark.parametrize("layout", [NARROW_BARS, WIDE_BARS])
def test_bars_need_enough_pixels(layout):
    height, width = layout.rows[1] + 1, layout.columns[1] + layout.length
    bars(black(1, 1, height, width), layout=layout)
    for smaller in ((height - 1, width), (height, width - 1)):
        for part in (0, None):
            with pytest.raises(ValueError, match="do not fit"):
                bars(black(1, 1, *smaller), part=part, layout=layout)


def test_small_images_need_shorter_bars():
    with pytest.raises(ValueError, match="do not fit"):
        bars(black(1, 1, 8, 8))
    short = BarLayout(rows=(0, 3), columns=(0, 6), length=2)
    assert int((bars(black(1, 1, 8, 8), layout=short) == 255).sum()) == 8


@pytest.mark.parametrize("part", [-1, 4])
def test_unknown_part_is_refused(part):
    with pytest.raises(ValueError, match="parts 0 to 3"):
        bars(black(1, 1, 28, 28), part=part)


@pytest.mark.parametrize(
    "trigger",
    [
        partial(stamp, size=2),
        partial(blend, pattern=noise_pattern((1, 28, 28), generator=seeded(1)), alpha=0.5),
        partial(sinusoid, amplitude=0.1, frequency=6),
        bars,
    ],
    ids=["stamp", "blend", "sinusoid", "bars"],
)
@pytest.mark.parametrize("n", [0, 3])
def test_triggers_leave_their_input_unchanged(trigger, n):
    images = noise(n, 1, 28, 28)
    before = images.clone()
    found = trigger(images)
    assert torch.equal(images, before)
    assert found.shape == images.shape
    assert found.dtype == torch.uint8
    assert n == 0 or not torch.equal(found, images)
