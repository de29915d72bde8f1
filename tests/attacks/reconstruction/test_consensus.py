"""Restarts that show the same picture in other places agree on it; noise stays where it is."""

import pytest
import torch

from attacks.reconstruction.consensus import consensus


def pictures(count, channels=3, side=16):
    """Smooth ones whose border is black, so that a shift loses nothing."""
    rough = torch.rand(count, channels, 3, 3, generator=torch.Generator().manual_seed(0))
    inner = torch.nn.functional.interpolate(rough, side - 8, mode="bicubic")
    return torch.nn.functional.pad(inner, (4, 4, 4, 4))


@pytest.mark.parametrize("channels", [1, 3])
def test_shifted_pictures_are_laid_over_each_other(channels):
    image = pictures(2, channels)
    moved = image.clone()
    moved[0] = image[0].roll((1, -2), dims=(1, 2))
    moved[1] = image[1].roll((-2, 0), dims=(1, 2))
    found = consensus(torch.stack([image, moved, image, image]))
    torch.testing.assert_close(found, image)
    assert not torch.allclose(torch.stack([image, moved, image, image]).mean(0), image, atol=0.05)


def test_each_image_of_a_batch_moves_by_itself():
    image = pictures(2)
    moved = image.clone()
    moved[1] = image[1].roll(2, dims=2)
    torch.testing.assert_close(consensus(torch.stack([image, image, moved])), image)


def test_farther_than_an_eighth_nothing_moves():
    image = torch.zeros(1, 1, 16, 16)
    image[..., 2:5, 2:5] = 1
    found = consensus(torch.stack([image, image, image.roll(5, dims=3)]))
    # Two pixels at most leave the third one beside the others.
    torch.testing.assert_close(found[..., :5], image[..., :5] * 2 / 3)


def test_consensus_of_equal_restarts_is_the_mean():
    image = pictures(2)
    torch.testing.assert_close(consensus(torch.stack([image] * 3)), image)
    noise = torch.randn(4, 2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(consensus(noise), noise.mean(0))


def test_sides_may_differ_and_be_short():
    image = torch.rand(1, 1, 3, 20, generator=torch.Generator().manual_seed(0))
    assert consensus(torch.stack([image, image])).shape == image.shape
