"""Rebuilt images in a grid: each in its place, under its name, as it is."""

import io

import numpy as np
import pytest
import torch

from fedlab.report.figures.gallery import gallery
from fedlab.report.figures.reconstructions import save


def images(count, channels=1, side=8):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, side, side, generator=generator)


def frames(figure):
    return [axis for axis in figure.axes if axis.images]


@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_is_there_in_order_under_its_name(channels):
    shown = images(11, channels)
    names = [f"label {place}" for place in range(11)]
    figure = gallery(shown, names, title="What is this?")
    assert figure.get_suptitle() == "What is this?"
    assert [frame.get_title() for frame in frames(figure)] == names
    for frame, image in zip(frames(figure), shown, strict=True):
        drawn = np.asarray(frame.images[0].get_array())
        expected = image[0] if channels == 1 else image.permute(1, 2, 0)
        np.testing.assert_allclose(drawn, expected.numpy())


@pytest.mark.parametrize(
    ("count", "columns", "grid"), [(1, 8, (1, 1)), (8, 8, (1, 8)), (9, 8, (2, 8)), (5, 2, (3, 2))]
)
def test_the_grid(count, columns, grid):
    figure = gallery(images(count), [""] * count, title="", columns=columns)
    assert frames(figure)[0].get_subplotspec().get_gridspec().get_geometry() == grid
    assert len(frames(figure)) == count
    assert not any(axis.axison for axis in figure.axes)


def test_grey_is_drawn_from_black_to_white_and_not_stretched():
    figure = gallery(torch.full((1, 1, 8, 8), 0.5), ["grey"], title="")
    (frame,) = frames(figure)
    assert frame.images[0].get_clim() == (0, 1)
    assert frame.images[0].get_cmap().name == "gray"


def test_pixels_outside_the_range_are_cut_without_a_complaint(caplog):
    figure = gallery(
        torch.tensor([-3.0, 0.5, 7.0]).view(3, 1, 1, 1).expand(3, 3, 4, 4), [""] * 3, title=""
    )
    drawn = [float(np.asarray(frame.images[0].get_array()).mean()) for frame in frames(figure)]
    assert drawn == [0.0, 0.5, 1.0]
    assert not caplog.records  # matplotlib would cut them too, and say so


def test_tensors_that_want_a_gradient_can_be_drawn():
    assert frames(gallery(images(1).requires_grad_(), [""], title=""))


@pytest.mark.parametrize(("side", "how"), [(8, "nearest"), (64, "nearest"), (65, "antialiased")])
def test_small_images_keep_their_pixels(side, how):
    (frame,) = frames(gallery(images(1, side=side), [""], title=""))
    assert frame.images[0].get_interpolation() == how


@pytest.mark.parametrize("count", [1, 8, 20])
def test_no_name_lies_on_the_title_or_on_an_image(count):
    figure = gallery(images(count), ["label 3"] * count, title="What does this update give away?")
    figure.draw_without_rendering()
    title = figure._suptitle.get_window_extent()
    names = [frame.title.get_window_extent() for frame in frames(figure)]
    assert not any(title.overlaps(name) for name in names)
    pictures = [frame.images[0].get_window_extent() for frame in frames(figure)]
    assert not any(name.overlaps(picture) for name in names for picture in pictures)


def test_it_says_in_words_what_it_shows():
    figure = gallery(images(2), ["label 3", "label 4"], title="What is this?")
    assert figure.alt == "What is this? 2 rebuilt images: label 3; label 4."


def test_it_can_be_written(tmp_path):
    save(gallery(images(3), ["a", "b", "c"], title="Which?"), tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    written = io.BytesIO()
    gallery(images(20, 3), [""] * 20, title="Which?").savefig(written)
    assert written.getvalue()
