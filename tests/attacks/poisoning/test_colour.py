"""Tests of colour remapping, against the interpolation of scipy."""

import numpy as np
import pytest
import torch
from scipy.interpolate import RegularGridInterpolator

from attacks.poisoning.colour import SPANS, YUV, Colour, recolour, roughness


def pictures(channels, n=2, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, 4, 5, generator=generator, dtype=dtype)


def grid_for(pixels, resolution=4, size=0.04, seed=1):
    generator = torch.Generator().manual_seed(seed)
    grid = Colour(resolution=resolution).identity(pixels)
    return size * (2 * torch.rand(grid.shape, generator=generator, dtype=grid.dtype) - 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("space", ["rgb", "yuv"])
def test_zero_grid_changes_nothing(channels, space):
    pixels = torch.cat(
        [pictures(channels), torch.ones(1, channels, 4, 5), torch.zeros(1, channels, 4, 5)]
    )
    grid = Colour().identity(pixels)
    assert grid.shape == (4, channels, *(10,) * channels)
    assert torch.equal(recolour(pixels, grid, space=space), pixels)


@pytest.mark.parametrize("space", ["rgb", "yuv"])
def test_recolour_is_trilinear_interpolation(space):
    pixels = pictures(3)
    grid = grid_for(pixels)
    matrix = np.array(YUV) if space == "yuv" else np.eye(3)
    axes = [np.linspace(low, high, 4) for low, high in SPANS[space]]
    for index, image in enumerate(pixels.numpy()):
        colours = np.einsum("oc,chw->ohw", matrix, image)
        table = np.moveaxis(grid[index].numpy(), 0, -1)
        moved = RegularGridInterpolator(axes, table)(np.moveaxis(colours, 0, -1))
        back = np.einsum("oc,hwc->ohw", np.linalg.inv(matrix), moved)
        expected = np.clip(image + back, 0, 1)
        found = recolour(pixels, grid, space=space)[index]
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_one_channel_uses_a_curve():
    pixels = pictures(1)
    grid = grid_for(pixels, resolution=5)
    found = recolour(pixels, grid)
    for index in range(2):
        image, curve = pixels[index].numpy(), grid[index, 0].numpy()
        expected = np.clip(image + np.interp(image, np.linspace(0, 1, 5), curve), 0, 1)
        np.testing.assert_allclose(found[index].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_stay_within_the_grid_bound(channels):
    pixels = pictures(channels)
    pixels[:, :, 0, 0] = pixels[:, :, 3, 4]
    found = recolour(pixels, grid_for(pixels), space="rgb")
    assert 0.01 < float((found - pixels).abs().max()) <= 0.04 + 1e-12
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    torch.testing.assert_close(found[:, :, 0, 0], found[:, :, 3, 4])


@pytest.mark.parametrize(("channels", "space"), [(1, "rgb"), (3, "rgb"), (3, "yuv")])
def test_recolour_is_differentiable_in_the_grid(channels, space):
    pixels = 0.2 + 0.6 * pictures(channels, n=1)
    grid = grid_for(pixels, resolution=3).requires_grad_()
    assert torch.autograd.gradcheck(lambda moved: recolour(pixels, moved, space=space), grid)


@pytest.mark.parametrize("channels", [1, 3])
def test_roughness_of_a_linear_grid(channels):
    grid = Colour(resolution=5).identity(pictures(channels))
    assert float(roughness(grid + 0.3)) == pytest.approx(0)
    slope = 0.1 * torch.arange(5, dtype=torch.float64)
    assert float(roughness(grid + slope)) == pytest.approx((0.1 * 5) ** 2 / channels)


@pytest.mark.parametrize(
    "options", [{"resolution": 1}, {"bound": 0.0}, {"bound": 1.5}, {"smoothness": -1.0}]
)
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="colour"):
        Colour(**options)


def test_two_channels_are_refused():
    with pytest.raises(ValueError, match="2 channels"):
        Colour().identity(torch.zeros(1, 2, 4, 4))
