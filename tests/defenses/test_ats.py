"""ATS: each transformation against torchvision's, and the policies of the public code."""

from itertools import product

import pytest
import torch
from torchvision.transforms import functional

from fedlab.data.shard import Shard
from fedlab.defenses.ats import ATS, CHANGES, TRANSFORMATIONS, translated
from tests.defenses.contexts import context, seeded

REFERENCES = {
    "contrast": functional.adjust_contrast,
    "brightness": functional.adjust_brightness,
    "sharpness": functional.adjust_sharpness,
}


def images(count=6, channels=3, side=10):
    return torch.rand(count, channels, side, side, generator=seeded())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", REFERENCES)
def test_factors_equal_those_of_torchvision(kind, channels):
    pixels = images(channels=channels)
    sizes = torch.tensor([0.5, -0.5, 0.1, 0.0, -0.3, 0.4])
    found = CHANGES[kind](pixels, sizes)
    for one, image, size in zip(found, pixels, sizes.tolist(), strict=True):
        torch.testing.assert_close(one, REFERENCES[kind](image, 1 + size), atol=1e-3, rtol=0)


@pytest.mark.parametrize("axis", [2, 3])
def test_content_moves_and_black_follows(axis):
    pixels = images(2)
    found = translated(pixels, torch.tensor([0.3, -0.2]), axis=axis)
    one, other = found.transpose(axis, 3), pixels.transpose(axis, 3)
    assert torch.equal(one[0, ..., :7], other[0, ..., 3:])
    assert not one[0, ..., 7:].any()
    assert torch.equal(one[1, ..., 2:], other[1, ..., :8])
    assert not one[1, ..., :2].any()


@pytest.mark.parametrize("policies", ["3-1-7+43-18-18", "21-13-3+7-4-15"])
def test_each_image_gets_one_of_two_policies(policies):
    """Every copy of an image equals one of the results, all of which occur as often."""
    count = 400
    shard = Shard(torch.zeros(count, 3, 10, 10, dtype=torch.uint8), torch.zeros(count).long(), 10)
    change = ATS(policies=policies).pixel_change(context(torch.nn.Identity(), shard), seeded())
    image = images(1)
    found = change(image.expand(count, -1, -1, -1))
    times = []
    for policy in policies.split("+"):
        for signs in product((1, -1), repeat=3):
            expected = image
            for number, sign in zip(policy.split("-"), signs, strict=True):
                kind, size = TRANSFORMATIONS[int(number)]
                expected = CHANGES[kind](expected, torch.tensor([sign * size]))
            times.append(int((found - expected).abs().flatten(1).amax(1).lt(1e-6).sum()))
    assert sum(times) == count
    assert all(5 <= each <= 50 for each in times)
    assert sum(times[:8]) == pytest.approx(count / 2, abs=40)
