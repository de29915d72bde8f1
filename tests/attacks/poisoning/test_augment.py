"""Tests of random crops and flips."""

import pytest
import torch

from attacks.poisoning.augment import CropAndFlip, crop_and_flip


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered(count=200, channels=1, height=6, width=5):
    """Images in which every pixel of a channel has a value of its own, above 0."""
    places = torch.arange(1, channels * height * width + 1).view(1, channels, height, width)
    return places.float().repeat(count, 1, 1, 1)


def shifts(original, padding, flip):
    """All that a padded image can become, by hand."""
    height, width = original.shape[1:]
    padded = torch.zeros(len(original), height + 2 * padding, width + 2 * padding)
    padded[:, padding : padding + height, padding : padding + width] = original
    found = []
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = padded[:, top : top + height, left : left + width]
            found += [crop, crop.flip(2)] if flip else [crop]
    return found


@pytest.mark.parametrize(("padding", "flip"), [(0, True), (1, True), (1, False), (2, False)])
@pytest.mark.parametrize("channels", [1, 3])
def test_shifts_and_flips_are_uniform(padding, flip, channels):
    pixels = numbered(3000, channels)
    changed = crop_and_flip(pixels, padding=padding, flip=flip, generator=seeded())
    possible = shifts(pixels[0], padding, flip)
    times = [int((changed == each).flatten(1).all(1).sum()) for each in possible]
    assert sum(times) == 3000
    expected = 3000 / len(possible)
    assert max(abs(count - expected) for count in times) < 5 * expected**0.5


@pytest.mark.parametrize("channels", [1, 3])
def test_gradient_reaches_only_visible_pixels(channels):
    pixels = numbered(4, channels, 6, 6).double().requires_grad_()
    weights = torch.rand(pixels.shape, generator=seeded(1), dtype=torch.float64)
    seen = crop_and_flip(pixels, padding=2, generator=seeded())
    (slope,) = torch.autograd.grad((weights * seen).sum(), pixels)
    # Every pixel of an image has a value of its own, so where it went can be read off.
    expected = torch.zeros_like(slope)
    for image in range(4):
        for place in (seen[image] > 0).nonzero():
            origin = pixels[image] == seen[image][tuple(place)]
            expected[image][origin] = weights[image][tuple(place)]
    torch.testing.assert_close(slope, expected)
    assert 0 < int((slope == 0).sum()) < slope.numel() / 2


def test_no_padding_and_no_flip_is_identity():
    pixels = torch.rand(3, 2, 5, 4, generator=seeded())
    assert torch.equal(crop_and_flip(pixels, padding=0, flip=False, generator=seeded()), pixels)


def test_same_generator_gives_the_same_result():
    pixels = torch.rand(40, 1, 8, 8, generator=seeded())
    augment = CropAndFlip(padding=1)
    assert torch.equal(augment(pixels, seeded(1)), augment(pixels, seeded(1)))
    assert not torch.equal(augment(pixels, seeded(1)), augment(pixels, seeded(2)))
    assert torch.equal(
        augment(pixels, seeded(1)), crop_and_flip(pixels, padding=1, flip=True, generator=seeded(1))
    )
