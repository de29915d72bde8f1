import io

import numpy as np
import pytest
import torch

from fedlab.report.figures.gallery import gallery
from fedlab.report.figures.reconstructions import save
from tests.report.legible import assert_legible, images_of, pixels_of, texts_of


def images(count, channels=1, side=8):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, side, side, generator=generator)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_is_there_in_order_under_its_name(channels):
    shown = images(11, channels)
    names = [f"label {place}" for place in range(11)]
    figure = gallery(shown, names, title="What is this?")
    assert figure.get_suptitle() == "What is this?"
    labels = [text.get_text() for text, _ in texts_of(figure)]
    assert [label for label in labels if label in names] == names
    for drawn, image in zip(pixels_of(figure), shown, strict=True):
        expected = image[0] if channels == 1 else image.permute(1, 2, 0)
        np.testing.assert_allclose(drawn, expected.numpy())


@pytest.mark.parametrize(
    ("count", "columns", "grid"), [(1, 8, (1, 1)), (8, 8, (1, 8)), (9, 8, (2, 8)), (5, 2, (3, 2))]
)
def test_images_fill_rows_of_a_grid(count, columns, grid):
    figure = gallery(images(count), [""] * count, title="Which?", columns=columns)
    places = [box.min.round() for _, box in images_of(figure)]
    assert len(places) == count
    assert (len({y for _, y in places}), len({x for x, _ in places})) == grid


def test_grey_images_are_not_stretched_in_contrast():
    figure = gallery(torch.full((1, 1, 8, 8), 0.5), ["grey"], title="")
    ((image, box),) = images_of(figure)
    assert image.get_clim() == (0, 1)
    assert image.get_cmap().name == "gray"
    assert box.width == pytest.approx(box.height)


def test_pixels_outside_the_range_are_clipped(caplog):
    figure = gallery(
        torch.tensor([-3.0, 0.5, 7.0]).view(3, 1, 1, 1).expand(3, 3, 4, 4), [""] * 3, title=""
    )
    assert [float(pixels.mean()) for pixels in pixels_of(figure)] == [0.0, 0.5, 1.0]
    assert not caplog.records  # matplotlib would cut them too, and say so


def test_tensors_that_want_a_gradient_can_be_drawn():
    assert images_of(gallery(images(1).requires_grad_(), [""], title=""))


@pytest.mark.parametrize(("side", "how"), [(8, "nearest"), (64, "nearest"), (65, "antialiased")])
def test_small_images_keep_their_pixels(side, how):
    ((image, _),) = images_of(gallery(images(1, side=side), [""], title=""))
    assert image.get_interpolation() == how


@pytest.mark.parametrize("count", [1, 8, 20, 64])
def test_nothing_overlaps_or_is_cut(count):
    assert_legible(gallery(images(count), ["label 3"] * count, title="What does this give away?"))
    long = ["client 12, label 3 (0.78), a name of many words"] * count
    assert_legible(gallery(images(count), long, title="What does this update give away? " * 4))


def test_it_says_in_words_what_it_shows():
    figure = gallery(images(2), ["label 3", "label 4"], title="What is this?")
    assert figure.alt == "What is this? 2 rebuilt images: label 3; label 4."


def test_it_can_be_written(tmp_path):
    save(gallery(images(3), ["a", "b", "c"], title="Which?"), tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    written = io.BytesIO()
    gallery(images(20, 3), [""] * 20, title="Which?").savefig(written)
    assert written.getvalue()
