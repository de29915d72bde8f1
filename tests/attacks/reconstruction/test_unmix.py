"""Un-mixing of real digits: claims in dB, parts against exhaustive search and scipy."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear
from torch.nn import functional

from attacks.reconstruction import unmix as module
from attacks.reconstruction.unmix import unmix, unmix_given
from fedlab.data import load
from fedlab.metrics.images import match, psnr

NOISE = 8 / 255


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture
def mixtures(digits):
    """Images, labels, assignment, mixed images and mixed labels, as a DP-InstaHide client."""

    def make(n, k, rounds, *, seed=0, noise=NOISE):
        generator = stream(seed)
        members = torch.randperm(len(digits.train_labels), generator=generator)[:n]
        images = digits.pixels(digits.train_images[members])
        labels = digits.train_labels[members]
        chosen = torch.rand(rounds, n, generator=generator).argsort(1)[:, :k]
        drawn = torch.empty(2, rounds, *images.shape[1:]).exponential_(generator=generator)
        mixed = images[chosen].mean(1) + noise * (drawn[0] - drawn[1])
        soft = functional.one_hot(labels[chosen], 10).float().mean(1)
        assignment = torch.zeros(rounds, n, dtype=torch.bool).scatter_(1, chosen, True)
        return images, labels, assignment, mixed.clamp(0, 1), soft

    return make


def median_psnr(images, found):
    mine, theirs = match(images, found)
    return float(psnr(images[mine], found[theirs]).median())


def without_attack(images, mixed):
    """Median over mixtures of the PSNR to the nearest original."""
    return float(torch.stack([psnr(images, one.expand_as(images)).max() for one in mixed]).median())


class TestKnownAssignment:
    def test_the_images_come_out_above_25_db(self, mixtures):
        images, _, assignment, mixed, _ = mixtures(8, 2, 80)
        assert float(psnr(images, unmix_given(mixed, assignment, k=2)).min()) > 25

    def test_it_is_scipys_least_squares_with_bounds(self, mixtures):
        """Half the noise is below the black of these few mixtures, so the bounds are active."""
        _, _, assignment, mixed, _ = mixtures(6, 2, 12, noise=0.2)
        found = unmix_given(mixed, assignment, k=2).flatten(1)
        flat = mixed.double().flatten(1).numpy()
        ridge = np.sqrt(module.RIDGE)
        system = np.vstack([assignment.double().numpy(), ridge * np.eye(6)])
        pull = ridge * flat.mean(0)
        expected = np.stack(
            [
                lsq_linear(
                    system, np.append(2 * flat[:, p], [pull[p]] * 6), (0, 1), method="bvls"
                ).x
                for p in range(flat.shape[1])
            ],
            axis=1,
        )
        assert 0.05 < (expected < 1e-9).mean() < 0.95
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-3)

    def test_image_in_no_mixture_is_the_mean(self, mixtures):
        _, _, assignment, mixed, _ = mixtures(4, 2, 20)
        wider = torch.cat([assignment, torch.zeros(20, 1, dtype=torch.bool)], dim=1)
        found = unmix_given(mixed, wider, k=2)
        torch.testing.assert_close(found[4], mixed.mean(0), atol=1e-4, rtol=0)

    def test_one_image_with_fresh_noise_is_averaged(self, mixtures):
        _, _, assignment, mixed, _ = mixtures(1, 1, 50)
        found = unmix_given(mixed, assignment, k=1)
        torch.testing.assert_close(found[0], mixed.mean(0), atol=1e-4, rtol=0)


class TestUnknownAssignment:
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_ten_mixtures_per_image_give_the_images_away(self, mixtures, seed):
        images, _, assignment, mixed, _ = mixtures(8, 2, 80, seed=seed)
        found = unmix(mixed, None, count=8, k=2, generator=stream())
        reached = median_psnr(images, found.images)
        assert reached > without_attack(images, mixed) + 15  # 34 against 14 dB
        assert reached > float(psnr(images, unmix_given(mixed, assignment, k=2)).median()) - 0.5
        mine, theirs = match(images, found.images)
        assert bool((found.assignment[:, theirs] == assignment[:, mine]).all())
        assert found.labels is None
        assert found.residual == pytest.approx(2**0.5 * NOISE, rel=0.3)  # Laplace, partly clipped

    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_fewer_mixtures_than_images_do_not(self, mixtures, seed):
        images, _, _, mixed, _ = mixtures(8, 2, 4, seed=seed)
        found = unmix(mixed, None, count=8, k=2, generator=stream())
        assert median_psnr(images, found.images) < without_attack(images, mixed) + 5
        assert found.residual < NOISE / 10  # it fits the noise as well

    @pytest.mark.parametrize("given", [True, False])
    def test_half_of_all_images_in_each_mixture_and_still(self, mixtures, given):
        """2 k = n: a mirror image fits as well, up to the range of the pixels."""
        images, labels, assignment, mixed, soft = mixtures(8, 4, 160)
        found = unmix(mixed, soft if given else None, count=8, k=4, generator=stream())
        assert median_psnr(images, found.images) > 30
        mine, theirs = match(images, found.images)
        same = (found.assignment[:, theirs] == assignment[:, mine]).all(1)
        assert float(same.double().mean()) > 0.95
        if given:
            assert found.labels is not None
            assert found.labels[theirs].tolist() == labels[mine].tolist()

    def test_labels_help_where_noise_hides_the_images(self, mixtures):
        images, _, _, mixed, soft = mixtures(8, 4, 160, noise=32 / 255)
        blind, told = (
            median_psnr(images, unmix(mixed, given, count=8, k=4, generator=stream()).images)
            for given in (None, soft)
        )
        assert told > 19
        assert told > blind + 2  # 19.6 against 14 dB; with the assignment known 21

    def test_more_subsets_than_can_be_tried(self, mixtures):
        """C(20, 4) = 4845: exchanges instead of an exhaustive search."""
        images, _, _, mixed, _ = mixtures(20, 4, 200)
        found = unmix(mixed, None, count=20, k=4, generator=stream(), restarts=16)
        assert median_psnr(images, found.images) > 28
        assert bool((found.assignment.sum(1) == 4).all())

    def test_fresh_noise_averages_out(self, mixtures):
        images, *_ = mixtures(8, 1, 1)
        often = torch.tensor([30, 20, 10, 6, 5, 4, 3, 2])
        sent = images.repeat_interleave(often, dim=0)
        noise = NOISE * torch.randn(sent.shape, generator=stream(1))
        found = unmix((sent + noise).clamp(0, 1), None, count=8, k=1, generator=stream())
        assert found.assignment.sum(0).sort(descending=True).values.tolist() == often.tolist()
        mean = sent.new_zeros(images.shape)
        for place, part in enumerate((sent + noise).clamp(0, 1).split(often.tolist())):
            mean[place] = part.mean(0)
        mine, theirs = match(mean, found.images)
        torch.testing.assert_close(found.images[theirs], mean[mine], atol=5e-3, rtol=0)

    def test_the_generator_decides(self, mixtures):
        *_, mixed, soft = mixtures(6, 2, 40)
        first, second = (unmix(mixed, soft, count=6, k=2, generator=stream(3)) for _ in range(2))
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.assignment, second.assignment)

    def test_a_single_image(self, mixtures):
        *_, mixed, soft = mixtures(1, 1, 10)
        found = unmix(mixed, soft, count=1, k=1, generator=stream())
        torch.testing.assert_close(found.images[0], mixed.mean(0), atol=1e-4, rtol=0)

    def test_identical_mixtures_do_not_break_it(self):
        found = unmix(torch.full((9, 1, 4, 4), 0.5), None, count=3, k=2, generator=stream())
        torch.testing.assert_close(found.images, torch.full((3, 1, 4, 4), 0.5))


def test_starts_include_mirror_images(mixtures):
    *_, mixed, _ = mixtures(8, 4, 160, noise=32 / 255)
    starts = module._starts(mixed.double().flatten(1), 8, 4, 8, stream())
    assert len(starts) >= 2
    for start, mirrored in zip(starts[::2], starts[1::2], strict=True):
        assert torch.equal(start, ~mirrored)


def test_exchanges_match_exhaustive_search(mixtures, monkeypatch):
    images, _, _, mixed, _ = mixtures(9, 3, 40, noise=0.02)
    points, flat = mixed.double().flatten(1), images.double().flatten(1)
    subsets = torch.tensor(list(combinations(range(9), 3)))
    best = torch.cdist(points, flat[subsets].mean(1)).argmin(1)
    expected = torch.zeros(40, 9, dtype=torch.bool).scatter_(1, subsets[best], True)
    start = torch.zeros(40, 9, dtype=torch.bool)
    start[:, :3] = True
    assert torch.equal(module._assign(points, flat, start, 3), expected)
    monkeypatch.setattr(module, "_EXHAUSTIVE", 0)
    swapped = module._assign(points, flat, start, 3)
    assert float((swapped == expected).all(1).double().mean()) > 0.9  # a local search


class TestRefusals:
    mixed = torch.rand(6, 1, 4, 4, generator=stream())

    @pytest.mark.parametrize(
        ("mixed", "labels", "settings", "message"),
        [
            (mixed[0], None, {}, "mixtures must be"),
            (mixed[:0], None, {}, "mixtures must be"),
            (mixed / 0, None, {}, "not finite"),
            (mixed, torch.ones(5, 10), {}, "labels of 6 mixtures"),
            (mixed, None, {"k": 5}, "cannot be drawn from 4"),
            (mixed, None, {"k": 0}, "cannot be drawn from 4"),
            (mixed, None, {"k": 4}, "the mean of all 4 images"),
            (mixed, None, {"restarts": 0}, "at least one restart"),
        ],
    )
    def test_what_cannot_be_unmixed(self, mixed, labels, settings, message):
        options = {"count": 4, "k": 2, "restarts": 2} | settings
        with pytest.raises(ValueError, match=message):
            unmix(mixed, labels, generator=stream(), **options)

    def test_an_assignment_that_does_not_fit(self):
        with pytest.raises(ValueError, match="need an assignment"):
            unmix_given(self.mixed, torch.ones(5, 4, dtype=torch.bool), k=4)
        with pytest.raises(ValueError, match="exactly k = 3"):
            unmix_given(self.mixed, torch.ones(6, 4, dtype=torch.bool), k=3)
