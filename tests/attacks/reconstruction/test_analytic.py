"""Inputs solved for against the true ones, from gradients taken by backward."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from attacks.knowledge import Knowledge
from attacks.payload import Payload
from attacks.reconstruction import PRESETS, invert
from attacks.reconstruction.analytic import (
    first_linear,
    invert_first_layer,
    invert_linear,
    why_not,
)
from fedlab.data.loading import load
from fedlab.models import build

DIGITS = load("digits")
SHAPE = (1, 8, 8)
LOW, HIGH = -torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
"""The range of normalised digits."""


def digits(count, seed=0, *, label=None):
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(DIGITS.train_labels), generator=generator)
    if label is not None:
        order = order[DIGITS.train_labels[order] == label]
    chosen = order[:count]
    return DIGITS.normalise(DIGITS.pixels(DIGITS.train_images[chosen])), DIGITS.train_labels[chosen]


def noise(count, shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *shape, generator=generator), torch.arange(count) % 10


def sent(model, images, labels):
    model.zero_grad()
    functional.cross_entropy(model(images), labels).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def errors(found, truth):
    """Relative error of each found image to the nearest true one, and which one that is."""
    found, truth = found.flatten(1).double(), truth.flatten(1).double()
    distance = (found[:, None] - truth[None]).norm(dim=2) / truth.norm(dim=1)
    return distance.min(1)


def sigmoid_net(inputs=64, width=30):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(inputs, width),
        nn.Sigmoid(),
        nn.Unflatten(1, (width, 1)),
        nn.Conv1d(width, 7, 1),
        nn.Tanh(),
        nn.Flatten(),
        nn.LayerNorm(7),
        nn.Sigmoid(),
        nn.Linear(7, 10),
    )


class TestOneImage:
    @pytest.mark.parametrize("shape", [SHAPE, (3, 32, 32)])
    @pytest.mark.parametrize("seed", range(3))
    def test_an_mlp_gives_it_away(self, shape, seed):
        images, labels = digits(1, seed) if shape == SHAPE else noise(1, shape, seed)
        gradient = sent(build("mlp", shape=shape, classes=10, seed=seed), images, labels)
        found = invert_first_layer(
            build("mlp", shape=shape, classes=10), gradient, image_shape=shape, num_images=1
        )
        assert found.inputs.shape == (1, *shape)
        assert found.inputs.dtype == torch.float32
        assert float(errors(found.inputs, images).values) < 1e-4
        assert found.exact.tolist() == [True]

    def test_exact_whatever_follows(self):
        model, (images, labels) = sigmoid_net(), digits(1)
        found = invert_first_layer(
            model, sent(model, images, labels), image_shape=SHAPE, num_images=1
        )
        assert float(errors(found.inputs, images).values) < 1e-4
        assert found.exact.all()

    def test_rows_count_by_how_much_they_can_be_trusted(self):
        """Against noise, least squares beats the mean of the ratios by far."""
        generator = torch.Generator().manual_seed(0)
        x, d = torch.randn(50, generator=generator), torch.randn(100, generator=generator)
        rows = d.outer(x) + 1e-3 * torch.randn(100, 50, generator=generator)
        found = invert_linear(rows, d, num_images=1)
        weighted = torch.linalg.lstsq(d.double()[:, None], rows.double()).solution
        torch.testing.assert_close(found.inputs, weighted.float())
        assert float((found.inputs - x).norm()) < 0.1 * float(
            ((rows / d[:, None]).mean(0) - x).norm()
        )
        assert not found.exact.any()

    def test_batch_taken_for_one_image_is_not_exact(self):
        model, (images, labels) = build("mlp", shape=SHAPE, classes=10), digits(3)
        found = invert_first_layer(
            model, sent(model, images, labels), image_shape=SHAPE, num_images=1
        )
        assert not found.exact.any()

    def test_a_black_image(self):
        found = invert_linear(torch.zeros(4, 3), torch.ones(4), num_images=1)
        assert found.inputs.tolist() == [[0, 0, 0]]
        assert found.exact.all()


class TestBatch:
    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("label", [None, 3])
    def test_eight_digits_of_a_wide_relu_net(self, seed, label):
        images, labels = digits(8, seed, label=label)
        model = build("mlp", shape=SHAPE, classes=10, width=1024, seed=seed)
        found = invert_first_layer(
            model,
            sent(model, images, labels),
            image_shape=SHAPE,
            num_images=8,
            low=LOW,
            high=HIGH,
        )
        error, which = errors(found.inputs, images)
        assert found.inputs.shape == images.shape
        assert int(found.exact.sum()) >= 6
        assert float(error[found.exact].max()) < 1e-3
        assert len(which[found.exact].unique()) == int(found.exact.sum())

    def test_eight_colour_images_without_a_box(self):
        images, labels = noise(8, (3, 16, 16))
        model = build("mlp", shape=(3, 16, 16), classes=10, width=1024)
        found = invert_first_layer(
            model, sent(model, images, labels), image_shape=(3, 16, 16), num_images=8
        )
        assert found.exact.all()
        assert sorted(errors(found.inputs, images).indices.tolist()) == list(range(8))
        assert float(errors(found.inputs, images).values.max()) < 1e-3

    def test_exact_inputs_are_exact_on_small_nets(self):
        exact = 0
        for seed in range(8):
            images, labels = digits(6, seed, label=seed % 10)
            model = build("mlp", shape=SHAPE, classes=10, width=100, seed=seed)
            gradient = sent(model, images, labels)
            found = invert_first_layer(model, gradient, image_shape=SHAPE, num_images=6)
            error = errors(found.inputs, images).values
            assert (error[found.exact] < 1e-3).all()
            exact += int(found.exact.sum())
        assert exact > 12

    def test_single_sample_units_solve_a_large_batch(self):
        """Thirty samples; five have three units each for themselves, the rest share the others."""
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(30, 50, generator=generator)
        d = torch.randn(60, 30, generator=generator)
        for sample in range(5):
            d[3 * sample : 3 * sample + 3] = 0
            d[3 * sample : 3 * sample + 3, sample] = torch.tensor([1.0, -2.0, 0.5])
        found = invert_linear(d @ x, d.sum(1), num_images=30)
        error, which = errors(found.inputs, x)
        assert found.exact.tolist() == [True] * 5 + [False] * 25
        assert sorted(which[:5].tolist()) == list(range(5))
        assert float(error[:5].max()) < 1e-5

    def test_the_same_image_twice_is_found_once(self):
        images, labels = digits(4)
        images[3], labels[3] = images[0], labels[0]
        model = build("mlp", shape=SHAPE, classes=10)
        found = invert_first_layer(
            model, sent(model, images, labels), image_shape=SHAPE, num_images=4
        )
        assert int(found.exact.sum()) == 3
        assert float(errors(found.inputs, images).values[found.exact].max()) < 1e-4

    def test_without_zeros_nothing_is_called_exact(self):
        model, (images, labels) = sigmoid_net(width=200), digits(4)
        found = invert_first_layer(
            model, sent(model, images, labels), image_shape=SHAPE, num_images=4
        )
        assert not found.exact.any()
        assert torch.isfinite(found.inputs).all()

    def test_nor_under_noise(self):
        model, (images, labels) = build("mlp", shape=SHAPE, classes=10), digits(4)
        generator = torch.Generator().manual_seed(0)
        noisy = {
            name: g + 1e-3 * torch.randn(g.shape, generator=generator)
            for name, g in sent(model, images, labels).items()
        }
        found = invert_first_layer(model, noisy, image_shape=SHAPE, num_images=4)
        assert not found.exact.any()

    def test_an_update_is_as_good_as_its_rounding_allows(self):
        model, (images, labels) = build("mlp", shape=SHAPE, classes=10), digits(3)
        weights = {name: p.detach() for name, p in model.named_parameters()}
        after = {n: weights[n] - 0.1 * g for n, g in sent(model, images, labels).items()}
        update = {n: weights[n] - after[n] for n in weights}
        found = invert_first_layer(model, update, image_shape=SHAPE, num_images=3, tolerance=1e-5)
        assert found.exact.all()
        assert float(errors(found.inputs, images).values.max()) < 1e-3

    def test_rows_outside_the_box_come_last(self):
        rows = torch.tensor([[0.5, 9.0], [0.2, 0.3], [0.4, 0.1]])
        found = invert_linear(
            rows * torch.tensor([[3.0], [2.0], [1.0]]),
            torch.tensor([3.0, 2.0, 1.0]),
            num_images=2,
            low=torch.zeros(1, 1),
            high=torch.ones(1, 1),
        )
        torch.testing.assert_close(found.inputs, rows[1:])

    def test_fewer_units_than_images_still_give_as_many(self):
        found = invert_linear(torch.rand(2, 5), torch.ones(2), num_images=6)
        assert found.inputs.shape == (6, 5)
        assert not found.exact.any()


class TestFirstLayer:
    @pytest.mark.parametrize(
        ("model", "names"),
        [
            (build("mlp", shape=SHAPE, classes=10), ("1.weight", "1.bias")),
            (nn.Linear(4, 2), ("weight", "bias")),
            (
                nn.Sequential(nn.Identity(), nn.Sequential(nn.Flatten(), nn.Linear(4, 2))),
                ("1.1.weight", "1.1.bias"),
            ),
        ],
    )
    def test_its_names(self, model, names):
        assert first_linear(model, dict(model.named_parameters())) == names

    @pytest.mark.parametrize(
        ("model", "reason"),
        [
            (build("convnet", shape=SHAPE, classes=10, width=4), 'starts with Conv2d "0"'),
            (build("resnet8", shape=SHAPE, classes=10, width=4), 'starts with Conv2d "0"'),
            (nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(64, 10)), 'starts with ReLU "0"'),
            (nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False)), "has no bias"),
            (nn.Sequential(nn.Flatten()), "no layer at all"),
        ],
    )
    def test_networks_that_cannot_be_inverted(self, model, reason):
        parameters = dict(model.named_parameters())
        assert first_linear(model, parameters) is None
        assert reason in why_not(model, parameters)
        with pytest.raises(ValueError, match=reason):
            invert_first_layer(model, parameters, image_shape=SHAPE, num_images=1)

    def test_a_layer_that_was_frozen(self):
        model = build("mlp", shape=SHAPE, classes=10)
        with pytest.raises(ValueError, match="is not there: was it frozen"):
            invert_first_layer(model, {"5.bias": torch.ones(10)}, image_shape=SHAPE, num_images=1)

    def test_images_of_another_size(self):
        model = build("mlp", shape=SHAPE, classes=10)
        gradient = sent(model, *digits(1))
        with pytest.raises(ValueError, match="takes 64 values but an image has 192"):
            invert_first_layer(model, gradient, image_shape=(3, 8, 8), num_images=1)


@pytest.mark.parametrize(
    ("weight", "bias", "images", "message"),
    [
        (torch.ones(3, 2), torch.ones(3), 0, "num_images is 0"),
        (torch.ones(3, 2), torch.ones(2), 1, "not \\[3, 2\\] and \\[2\\]"),
        (torch.ones(3, 2), torch.zeros(3), 1, "is zero"),
        (torch.full((3, 2), torch.nan), torch.ones(3), 1, "not finite"),
    ],
)
def test_gradients_that_say_nothing(weight, bias, images, message):
    with pytest.raises(ValueError, match=message):
        invert_linear(weight, bias, num_images=images)


def large_batch(images=24):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 300), nn.ReLU(), nn.Linear(300, 10))
    return model, *noise(images, (1, 16, 16))


@pytest.mark.parametrize(("rounds", "found"), [(1, 0), (16, 24)])
def test_more_rounds_separate_larger_batches(rounds, found):
    model, images, labels = large_batch()
    recovered = invert_first_layer(
        model, sent(model, images, labels), image_shape=(1, 16, 16), num_images=24, rounds=rounds
    )
    assert int((errors(recovered.inputs, images).values < 1e-2).sum()) == found
    assert int(recovered.exact.sum()) == found


def test_spear_takes_as_many_rounds_as_iterations():
    model, images, labels = large_batch()
    images = images.clamp(-1, 1)
    payload = Payload("gradient", sent(model, images, labels), num_examples=24, steps=1)
    known = Knowledge((1, 16, 16), 10, (0.5,), (0.5,), num_images=24)
    found = [
        invert(
            model,
            dict(model.state_dict()),
            payload,
            known,
            replace(PRESETS["spear"], iterations=iterations),
            generator=torch.Generator().manual_seed(0),
        ).images
        for iterations in (1, 16)
    ]
    pixels = images * 0.5 + 0.5
    few, all_ = (int((errors(each, pixels).values < 1e-2).sum()) for each in found)
    assert (few, all_) == (0, 24)
