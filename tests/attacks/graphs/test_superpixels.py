"""SLIC beside scikit-image's, merging beside one pair at a time, and colours by k-means."""

import pytest
import torch
from skimage.segmentation import slic as reference
from sklearn.datasets import load_sample_images

from attacks.graphs.merging import merge_regions
from attacks.graphs.regions import region_graph, region_means
from attacks.graphs.superpixels import COMPACTNESS, colours_of, slic


@pytest.fixture(scope="module")
def photo():
    """float32 ``[3, 96, 128]``."""
    picture = torch.tensor(load_sample_images().images[1])
    return picture.permute(2, 0, 1)[:, 150:246, 200:328].float() / 255


def spread(image, regions):
    """Mean squared distance of pixels from the mean colour of their region."""
    pixels = image.flatten(1).T
    means = region_means(pixels, regions.flatten(), region_graph(regions).areas)
    return float((pixels - means[regions.flatten()]).square().mean())


def test_slic_is_as_close_as_that_of_scikit_image(photo):
    found = slic(photo, 200)
    other = reference(
        photo.permute(1, 2, 0).numpy(),
        200,
        compactness=COMPACTNESS,
        start_label=0,
        convert2lab=False,
        enforce_connectivity=False,
    )
    count = int(found.max()) + 1
    assert abs(count - 200) <= 20
    assert torch.equal(found.unique(), torch.arange(count))
    others = torch.unique(torch.tensor(other), return_inverse=True)[1]
    assert spread(photo, found) <= 1.2 * spread(photo, others)
    squares = torch.arange(96).view(-1, 1) // 8 * 16 + torch.arange(128) // 8
    assert spread(photo, found) < 0.5 * spread(photo, squares)


def test_compact_super_pixels_are_squares(photo):
    squares = torch.arange(96).view(-1, 1) // 8 * 16 + torch.arange(128) // 8
    assert torch.equal(slic(photo, 192, compactness=1e4), squares)


def merged_one_by_one(image, count, smoothness):
    """The same by a plain loop over all pairs."""
    regions = torch.arange(image[0].numel()).view(image.shape[1:])
    while (left := int(regions.max()) + 1) > count:
        graph = region_graph(regions)
        means = region_means(image.flatten(1).T.double(), regions.flatten(), graph.areas)
        one, two = graph.areas[graph.first], graph.areas[graph.second]
        costs = one * two / (one + two) * graph.differences(means).square().sum(1)
        best = int((costs - smoothness * graph.weights).argmin())
        into = torch.arange(left)
        into[graph.second[best]] = graph.first[best]
        regions = torch.unique(into[regions], return_inverse=True)[1]
    return regions


def test_merging_is_as_close_as_one_pair_at_a_time(photo):
    image = photo[:, :16, :20]
    found, slow = merge_regions(image, 20), merged_one_by_one(image, 20, 0.0)
    assert spread(image, found) <= 1.25 * spread(image, slow)


def test_merging_finds_regions_of_one_colour(photo):
    quarters = torch.zeros(1, 8, 8)
    quarters[:, 4:] += 0.4
    quarters[:, :, 4:] += 0.2
    assert torch.equal(
        merge_regions(quarters, 4), torch.unique(quarters[0], return_inverse=True)[1]
    )
    found = merge_regions(photo, 150, smoothness=0.01)
    assert torch.equal(found.unique(), torch.arange(150))
    assert merge_regions(photo, 1).unique().tolist() == [0]


def test_colours_are_the_clusters_of_an_image():
    centres = torch.tensor([[0.1, 0.2], [0.5, 0.4], [0.9, 0.9]])
    noise = 0.01 * torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    image = (centres.repeat(10, 1) + noise).T.view(2, 5, 6)
    torch.testing.assert_close(colours_of(image, 3), centres, atol=0.01, rtol=0)
    assert colours_of(torch.full((1, 4, 4), 0.5), 6).tolist() == [[0.5]]


@pytest.mark.parametrize(("count", "compactness"), [(0, 0.1), (4, 0.0)])
def test_impossible_super_pixels_are_refused(photo, count, compactness):
    with pytest.raises(ValueError, match="super-pixels need"):
        slic(photo, count, compactness=compactness)


@pytest.mark.parametrize(("count", "smoothness"), [(0, 0.0), (4, -1.0)])
def test_impossible_merging_is_refused(photo, count, smoothness):
    with pytest.raises(ValueError, match="merging needs"):
        merge_regions(photo, count, smoothness=smoothness)
