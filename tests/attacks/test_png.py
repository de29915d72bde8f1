"""Images come back from their PNG as they went in, to a level of a pixel."""

import base64
import io

import numpy as np
import pytest
import torch
from matplotlib import image as reader

from attacks.png import data_uri, png


@pytest.mark.parametrize("shape", [(1, 5, 7), (3, 5, 7), (3, 1, 1)])
def test_another_reader_finds_the_same_pixels(shape):
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    found = reader.imread(io.BytesIO(png(image)))
    expected = image[0].numpy() if shape[0] == 1 else image.permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, expected, atol=0.5 / 255 + 1e-6)


def test_pixels_out_of_range_and_missing_ones():
    found = reader.imread(io.BytesIO(png(torch.tensor([[[-1.0, 2.0, torch.nan, torch.inf]]]))))
    np.testing.assert_allclose(found, [[0, 1, 128 / 255, 1]], atol=1e-6)


def test_the_address_holds_the_file():
    image = torch.rand(1, 4, 4)
    kind, _, content = data_uri(image).partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content) == png(image)


@pytest.mark.parametrize("shape", [(4, 4), (2, 4, 4), (1, 0, 4)])
def test_what_is_no_image(shape):
    with pytest.raises(ValueError, match="an image is"):
        png(torch.zeros(shape))
