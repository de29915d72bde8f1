"""Tests of the imprint block on real images."""

import math
from statistics import NormalDist

import pytest
import torch
from torch import nn
from torch.nn import functional

from attacks.gradients import batch_gradient
from attacks.malicious_server.imprint import ImprintBlock, imprint, read_out, statistic_row
from fedlab.data import load
from fedlab.metrics.images import psnr
from fedlab.models import build
from tests import real_images

BATCH = 64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def some(data, count=BATCH, seed=0):
    order = torch.randperm(len(data.train_labels), generator=seeded(seed))[:count]
    return data.pixels(data.train_images[order]), data.train_labels[order]


def public(data):
    return data.normalise(data.pixels(data.test_images))


def trap(data, name="convnet", bins=128, **options):
    network = build(name, shape=data.shape, classes=data.num_classes, seed=3)
    options = {"reference": public(data)} | options
    return imprint(network, shape=data.shape, bins=bins, generator=seeded(1), **options)


def gradient_of(model, data, pixels, labels):
    buffers = dict(model.named_buffers())
    inputs = data.normalise(pixels)
    return batch_gradient(model, dict(model.named_parameters()), buffers, inputs, labels)


def box(data):
    return [data.normalise(torch.full((1, data.shape[0], 1, 1), end)) for end in (0.0, 1.0)]


def read(data, gradient):
    low, high = box(data)
    return read_out(gradient, shape=data.shape, low=low, high=high)


def alone(model, data, pixels):
    """Places of the images that share their bin with no other: as many units fire as for them."""
    with torch.no_grad():
        fired = (model.block.measure(data.normalise(pixels).flatten(1)) > 0).sum(1)
    return [i for i, count in enumerate(fired.tolist()) if (fired == count).sum() == 1]


def best(data, found, pixels):
    """PSNR of the closest readout to each image."""
    guesses = data.denormalise(found.images)
    return torch.stack([psnr(pixels, guess.expand_as(pixels)) for guess in guesses]).amax(0)


@pytest.mark.parametrize("name", ["convnet", "mlp", "lenet"])
@pytest.mark.parametrize(("bins", "frequency"), [(128, 0), (256, 0), (256, 5)])
def test_image_alone_in_its_bin_is_exact(digits, name, bins, frequency):
    pixels, labels = some(digits)
    model = trap(digits, name, bins, frequency=frequency)
    single = alone(model, digits, pixels)
    quality = best(digits, read(digits, gradient_of(model, digits, pixels, labels)), pixels)
    assert len(single) >= BATCH / 3
    assert float(quality[single].min()) > 45
    assert int((quality > 40).sum()) >= BATCH / 3


def test_number_of_lone_images_matches_chance(digits):
    """b (1 - 1/k)^(b - 1) images of equally likely bins, where few statistics coincide."""
    expected = BATCH * (1 - 1 / 256) ** (BATCH - 1)
    everything = digits.normalise(digits.pixels(digits.train_images))
    model = trap(digits, bins=256, frequency=5, reference=everything)
    counts = [len(alone(model, digits, some(digits, seed=seed)[0])) for seed in range(10)]
    assert sum(counts) / 10 == pytest.approx(expected, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("reference", [True, False])
def test_photographs_are_read_out(tmp_path, reference):
    source = real_images.npz("cifar10", tmp_path, "--train", "1000", "--test", "1000")
    data = load(f"npz:{source}")
    pixels, labels = some(data)
    model = trap(data, bins=256, reference=public(data) if reference else None)
    single = alone(model, data, pixels)
    quality = best(data, read(data, gradient_of(model, data, pixels, labels)), pixels)
    assert len(single) > 0.6 * BATCH
    assert float(quality[single].min()) > 60


def test_sum_over_users_is_read_out(digits):
    pixels, labels = some(digits)
    model = trap(digits, bins=256, frequency=5)
    users = [
        gradient_of(model, digits, pixels[part], labels[part])
        for part in torch.arange(BATCH).split([8, 24, 32])
    ]
    total = {
        name: sum(w * u[name] for w, u in zip((3, 1, 2), users, strict=True)) for name in users[0]
    }
    single = alone(model, digits, pixels)
    assert len(single) >= BATCH / 3
    assert float(best(digits, read(digits, total), pixels)[single].min()) > 45


def test_untampered_weights_reveal_almost_nothing(digits):
    """At random weights two units rarely differ by one image: 9 of 1,920 over 30 seeds."""
    pixels, labels = some(digits)
    model = trap(digits)
    quality = []
    for seed in range(6):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model.block.measure.reset_parameters()
            model.block.pattern.reset_parameters()
        found = read(digits, gradient_of(model, digits, pixels, labels))
        quality.append(best(digits, found, pixels))
    assert sum(int((values > 40).sum()) for values in quality) < 6
    assert float(torch.stack(quality).median()) < 20


def test_gradient_without_block_is_refused(digits):
    model = build("convnet", shape=digits.shape, classes=10)
    with pytest.raises(ValueError, match=r"no block\.measure\.weight"):
        read(digits, gradient_of(model, digits, *some(digits, 4)))


def test_batch_norm_behind_the_block_is_harmless(digits):
    """In training mode the images depend on each other; the units' derivatives stay equal."""
    pixels, labels = some(digits)
    layers = [nn.BatchNorm2d(1), nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)]
    model = imprint(
        nn.Sequential(*layers),
        shape=digits.shape,
        bins=256,
        generator=seeded(),
        reference=public(digits),
    ).train()
    single = alone(model, digits, pixels)
    quality = best(digits, read(digits, gradient_of(model, digits, pixels, labels)), pixels)
    assert len(single) >= BATCH / 3
    assert float(quality[single].min()) > 45


class TestReadOut:
    def test_a_bin_of_two_holds_their_weighted_mean(self):
        """Against the formula with derivatives by hand: the loss is the sum of all outputs."""
        weights = torch.tensor([1.0, 3.0, 1.0])
        images = torch.tensor([[0.0, 0.2], [0.2, 0.4], [1.0, 0.4]]).view(3, 1, 1, 2)
        block = ImprintBlock(
            (1, 1, 2), edges=torch.tensor([-1.0, 0.0, 0.5, 2.0]), generator=seeded()
        )
        (weights @ block(images).flatten(1).sum(1)).backward()
        gradient = {f"b.{name}": p.grad for name, p in block.named_parameters()}
        low, high = torch.tensor(0.0), torch.tensor(1.0)
        found = read_out(gradient, block="b", shape=(1, 1, 2), low=low, high=high)
        assert found.bins.tolist() == [1, 2]
        expected = torch.stack([(images[0] + 3 * images[1]) / 4, images[2]])
        torch.testing.assert_close(found.images, expected)

    def test_what_lies_within_the_pixel_range_comes_first(self):
        shares = torch.tensor([0.5, 1.0, 0.25, 0.0])
        images = torch.tensor([[1.5, 0.0], [0.5, 0.5], [0.0, -0.2]])
        rows = torch.cat([shares[:3, None] * images, torch.zeros(1, 2)])
        gradient = {
            "block.measure.weight": rows.flip(0).cumsum(0).flip(0),
            "block.measure.bias": shares.flip(0).cumsum(0).flip(0),
        }
        low, high = torch.tensor(0.0), torch.tensor(1.0)
        found = read_out(gradient, shape=(1, 1, 2), low=low, high=high)
        assert found.bins.tolist() == [1, 2, 0]
        assert found.excess.tolist() == pytest.approx([0, 0.1, 0.25])

    def test_nothing_sent_is_nothing_found(self):
        gradient = {
            "block.measure.weight": torch.zeros(4, 2),
            "block.measure.bias": torch.zeros(4),
        }
        zero = torch.tensor(0.0)
        assert read_out(gradient, shape=(1, 1, 2), low=zero, high=zero).images.shape == (0, 1, 1, 2)

    @pytest.mark.parametrize(
        ("weight", "message"),
        [(torch.zeros(4, 3), "no block for images"), (torch.full((4, 2), math.nan), "not finite")],
    )
    def test_what_cannot_be_read(self, weight, message):
        gradient = {"block.measure.weight": weight, "block.measure.bias": torch.zeros(4)}
        zero = torch.tensor(0.0)
        with pytest.raises(ValueError, match=message):
            read_out(gradient, shape=(1, 1, 2), low=zero, high=zero)


class TestBlock:
    def test_the_network_behind_still_sees_the_image(self, digits):
        images = public(digits)
        model = trap(digits)
        with torch.no_grad():
            added = model.block(images) - images
        assert 0.02 < float(added.std()) < 0.3

    def test_all_rows_are_the_mean_and_every_bin_is_as_likely(self, digits):
        images = public(digits)
        model = trap(digits, bins=8)
        brightness = images.double().flatten(1).mean(1)
        rows = model.block.measure.weight.detach()
        torch.testing.assert_close(rows, torch.full((8, 64), 1 / 64))
        edges = -model.block.measure.bias.detach().double()
        counts = [int((brightness > edge + 1e-6).sum()) for edge in edges]
        expected = [len(images) * (8 - index) / 8 for index in range(8)]
        assert counts == pytest.approx(expected, abs=6)  # digits share values of brightness

    def test_without_reference_the_bins_are_those_of_a_normal_distribution(self):
        model = imprint(
            nn.Flatten(), shape=(1, 2, 2), bins=4, generator=seeded(), centre=1.0, spread=2.0
        )
        edges = (-model.block.measure.bias).tolist()
        quartile = NormalDist().inv_cdf(0.75)
        assert edges == pytest.approx([-19, 1 - 2 * quartile, 1, 1 + 2 * quartile], abs=1e-5)

    def test_the_statistic_is_a_row_of_the_cosine_transform(self):
        from scipy.fft import dct

        signal = torch.randn(12, generator=seeded())
        expected = dct(signal.numpy(), type=2) / 24
        for frequency in (0, 1, 11):
            value = float(statistic_row(12, frequency) @ signal)
            assert value == pytest.approx(float(expected[frequency]), abs=1e-6)

    def test_the_same_generator_gives_the_same_block_and_torchs_own_state_stays(self, digits):
        before = torch.get_rng_state()
        first, second = (
            imprint(nn.Flatten(), shape=(1, 8, 8), bins=4, generator=seeded(7)) for _ in range(2)
        )
        assert torch.equal(torch.get_rng_state(), before)
        for name, value in first.state_dict().items():
            assert torch.equal(value, second.state_dict()[name]), name

    def test_it_takes_the_type_of_the_network(self):
        network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).double()
        model = imprint(network, shape=(1, 2, 2), bins=4, generator=seeded())
        output = model(torch.zeros(1, 1, 2, 2, dtype=torch.float64))
        assert output.dtype == torch.float64
        functional.cross_entropy(output, torch.tensor([0])).backward()

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"bins": 1}, "at least 2 bins"),
            ({"spread": 0.0}, "spread must be above 0"),
            ({"frequency": 4}, "frequency must be from 0 to 3"),
            ({"reference": torch.zeros(3, 1, 2, 3)}, "are not some of"),
            ({"reference": torch.zeros(0, 1, 2, 2)}, "are not some of"),
            ({"reference": torch.zeros(3, 1, 2, 2)}, "different, finite"),
            ({"reference": torch.full((3, 1, 2, 2), math.nan)}, "different, finite"),
        ],
    )
    def test_what_cannot_be_built(self, wrong, message):
        options = {"shape": (1, 2, 2), "bins": 4, "generator": seeded()} | wrong
        with pytest.raises(ValueError, match=message):
            imprint(nn.Flatten(), **options)
