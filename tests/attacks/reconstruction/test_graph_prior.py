"""The prior on super-pixels: its value, its gradient, its stages, and a reconstruction with it."""

from dataclasses import replace

import pytest
import torch

from attacks.gradients import batch_gradient
from attacks.graphs.regions import region_graph
from attacks.knowledge import Knowledge
from attacks.payload import Payload
from attacks.reconstruction import PRESETS, AttackSettings, PriorContext, invert
from attacks.reconstruction.components import PRIORS, name_of
from attacks.reconstruction.graph_prior import (
    GraphVariation,
    blocks_of,
    graph_variation_prior,
    superpixels_of,
    variation,
)
from attacks.reconstruction.priors import total_variation
from fedlab.models import build


class Plain:
    """A problem whose images are pixels already."""

    def pixels(self, images):
        return images.clamp(0, 1)


def context(iterations=10):
    return PriorContext(Plain(), AttackSettings(iterations=iterations), None, None)


def images(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_on_single_pixels_it_is_the_total_variation():
    x = images(2, 3, 6, 6)
    regions = torch.arange(72).view(2, 6, 6)
    found = variation(x, regions.flatten(), region_graph(regions))
    # Pairs of neighbours are 5 of 6 pixels each way; the rest is the root of the smoothing.
    assert float(found) == pytest.approx(float(total_variation(x)) * 5 / 6, abs=2e-4)


def test_only_borders_count_in_images_of_regions():
    regions = torch.tensor([[0, 0, 1, 1]] * 4)
    x = (0.2 + 0.5 * regions).view(1, 1, 4, 4)
    found = variation(x, regions.flatten(), region_graph(regions))
    assert float(found) == pytest.approx(4 * 0.5 / 16, abs=2e-4)


def test_gradient():
    x = images(2, 2, 6, 6).double()
    regions = superpixels_of(x.float())
    graph = region_graph(regions)
    leaf = x.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda y: variation(y, regions.flatten(), graph), leaf, atol=1e-4
    )


def test_regions_belong_to_one_image_each():
    x = images(3, 1, 8, 10)
    for regions in (superpixels_of(x), blocks_of(x)):
        assert regions.shape == (3, 8, 10)
        sets = [set(each.flatten().tolist()) for each in regions]
        assert not sets[0] & sets[1]
        assert not sets[1] & sets[2]
    assert blocks_of(x)[0, 4:, 8:].unique().tolist() == [5]


@pytest.mark.parametrize("start", ["pixels", "blocks"])
def test_super_pixels_come_after_the_start(start):
    prior, x, around = GraphVariation(start), images(1, 1, 12, 12), context()
    early = prior(x, around)
    blocks = blocks_of(x)
    expected = {
        "pixels": total_variation(x),
        "blocks": variation(x, blocks.flatten(), region_graph(blocks)),
    }
    assert torch.equal(early, expected[start])
    for _ in range(3):
        later = prior(x, around)
    cut = superpixels_of(x)
    assert torch.equal(later, variation(x, cut.flatten(), region_graph(cut)))


def test_restarts_do_not_share_super_pixels():
    one, other = context(), context()
    for _ in range(5):
        graph_variation_prior(images(1, 1, 12, 12), one)
    assert not other.memory


def test_it_has_a_name():
    assert PRIORS["graph-variation"] is graph_variation_prior
    assert name_of(graph_variation_prior) == "graph-variation"


def test_reconstructions_are_flatter_and_repeat_their_bits():
    model = build("convnet", shape=(1, 16, 16), classes=4, width=4, seed=0).eval()
    inputs, labels = images(1, 1, 16, 16), torch.tensor([2])
    gradient = batch_gradient(
        model, dict(model.named_parameters()), dict(model.named_buffers()), inputs, labels
    )
    payload = Payload("gradient", gradient, num_examples=1, steps=1)
    known = Knowledge((1, 16, 16), 4, (0.0,), (1.0,), num_images=1, labels=labels)

    def rebuilt(weight):
        attack = replace(
            PRESETS["fast"], tv=0.0, iterations=30, priors=(("graph-variation", weight),)
        )
        draws = torch.Generator().manual_seed(0)
        return invert(model, model.state_dict(), payload, known, attack, generator=draws).images

    flat = rebuilt(10.0)
    assert torch.equal(flat, rebuilt(10.0))
    assert total_variation(flat) < 0.5 * total_variation(rebuilt(0.0))
