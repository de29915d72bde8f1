"""What is heard inside a network, against plain computations in float64."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from attacks.gradients import batch_gradient
from attacks.reconstruction.hooks import (
    LayerInputs,
    collect_layer_inputs,
    features_distance,
    last_linear,
    recovered_features,
    running_statistics,
    statistics_distance,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network(seed=0):
    """Two BatchNorm layers and two linear ones, in float64, with other than fresh statistics."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(48, 5),
        nn.BatchNorm1d(5),
        nn.Tanh(),
        nn.Linear(5, 4),
    ).double()
    for layer in (model[1], model[5]):
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    return model


def images(count=3, seed=1):
    drawn = torch.randn(count, 1, 6, 6, generator=seeded(seed), dtype=torch.float64)
    return drawn.requires_grad_()


def hooks(model):
    return sum(len(module._forward_pre_hooks) for module in model.modules())


class TestListening:
    def test_collects_batch_norm_and_last_linear_inputs(self):
        model, batch = network().eval(), images()
        with collect_layer_inputs(model) as inputs:
            output = model(batch)
        assert set(inputs.batch_norms) == {"1", "5"}
        assert torch.equal(inputs.batch_norms["1"], model[0](batch))
        assert torch.equal(inputs.batch_norms["5"], model[:5](batch))
        assert torch.equal(model[7](inputs.features), output)

    def test_the_latest_pass_counts(self):
        model = network().eval()
        with collect_layer_inputs(model) as inputs:
            model(images(seed=1))
            model(images(seed=2))
        assert torch.equal(inputs.batch_norms["1"], model[0](images(seed=2)))

    def test_what_was_heard_can_be_differentiated(self):
        model, batch = network().eval(), images()
        with collect_layer_inputs(model) as inputs:
            model(batch)
        assert torch.autograd.grad(inputs.features.sum(), batch)[0].any()

    def test_hooks_are_removed_after_an_error(self):
        model = network()
        before = hooks(model)
        with collect_layer_inputs(model):
            assert hooks(model) == before + 3
        assert hooks(model) == before
        with pytest.raises(RuntimeError), collect_layer_inputs(model):
            raise RuntimeError
        assert hooks(model) == before

    def test_the_last_linear_layer_by_name(self):
        assert last_linear(network()) == "7"
        assert last_linear(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())) is None


class TestStatistics:
    def test_statistics_match_a_loop_over_channels(self):
        model, batch = network().train(), images(4)
        reference = {
            "1": (torch.tensor([0.1, -0.2, 0.3]).double(), torch.tensor([1.0, 0.5, 2.0]).double()),
            "5": (torch.zeros(5).double(), torch.full((5,), 0.7).double()),
        }
        with collect_layer_inputs(model) as inputs:
            model(batch)
        found = statistics_distance(inputs, reference)
        (slope,) = torch.autograd.grad(found, batch)

        expected = torch.zeros((), dtype=torch.float64)
        first = model[0](batch)
        second = model[4](model[3](model[2](model[1](first))))
        for name, heard in (("1", first), ("5", second)):
            for channel in range(heard.shape[1]):
                values = heard[:, channel].flatten()
                mean = values.sum() / len(values)
                variance = ((values - mean) ** 2).sum() / len(values)
                expected = expected + (mean - reference[name][0][channel]) ** 2
                expected = expected + (variance - reference[name][1][channel]) ** 2
        (other,) = torch.autograd.grad(expected, batch)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(slope, other, rtol=1e-6, atol=1e-12)

    def test_it_is_zero_at_the_batch_itself(self):
        model, batch = network(), images(4)
        with collect_layer_inputs(model) as inputs:
            model(batch)
        first = model[0](batch)
        own = {"1": (first.mean((0, 2, 3)), first.var((0, 2, 3), unbiased=False))}
        assert float(statistics_distance(inputs, own).detach()) < 1e-24

    def test_running_statistics_come_from_buffers(self):
        model = network()
        sent = {name: value + 1 for name, value in model.named_buffers() if "num" not in name}
        found = running_statistics(model, sent)
        assert set(found) == {"1", "5"}
        for name, layer in (("1", model[1]), ("5", model[5])):
            assert torch.equal(found[name][0], layer.running_mean + 1)
            assert torch.equal(found[name][1], layer.running_var + 1)

    def test_layers_that_keep_none_are_left_out(self):
        model = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2, track_running_stats=False))
        assert set(running_statistics(model, dict(model.named_buffers()))) == {"0"}

    @pytest.mark.parametrize(
        "model", [nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False), nn.GroupNorm(1, 2)]
    )
    def test_a_network_that_keeps_none_is_refused(self, model):
        with pytest.raises(ValueError, match="needs a network with BatchNorm that keeps them"):
            running_statistics(model, dict(model.named_buffers()))


class TestFeatures:
    def sent(self, model, batch, labels):
        return batch_gradient(
            model, dict(model.named_parameters()), dict(model.named_buffers()), batch, labels
        )

    def test_one_image_is_recovered_exactly(self):
        model, batch = network().eval(), images(1)
        found = recovered_features(
            model, self.sent(model, batch, torch.tensor([2])), torch.tensor([2])
        )
        torch.testing.assert_close(found, model[:7](batch).detach(), rtol=1e-9, atol=1e-12)

    def test_soft_label_uses_the_likeliest_class(self):
        model, batch = network().eval(), images(1)
        soft = functional.one_hot(torch.tensor([2]), 4).double() * 0.7 + 0.075
        found = recovered_features(model, self.sent(model, batch, soft), soft)
        torch.testing.assert_close(found, model[:7](batch).detach(), rtol=1e-9, atol=1e-12)

    def test_of_a_batch_each_row_is_that_of_its_label(self):
        """With sure outputs for other classes nothing leaks between the rows."""
        model, batch = network().eval(), images(2)
        with torch.no_grad():  # far from both labels: their probabilities vanish
            model[7].bias.copy_(torch.tensor([0.0, 60.0, 0.0, 0.0]))
        labels = torch.tensor([3, 0])
        found = recovered_features(model, self.sent(model, batch, labels), labels)
        torch.testing.assert_close(found, model[:7](batch).detach(), rtol=1e-9, atol=1e-12)

    def test_a_bias_that_got_no_gradient_gives_zeros(self):
        model = nn.Sequential(nn.Linear(3, 2))
        gradient = {"0.weight": torch.ones(2, 3), "0.bias": torch.tensor([1.0, 0.0])}
        found = recovered_features(model, gradient, torch.tensor([1]))
        assert torch.equal(found, torch.zeros(1, 3))

    def test_distance_and_gradient_against_a_loop(self):
        model, batch = network().eval(), images(2)
        recovered = torch.randn(2, 5, generator=seeded(), dtype=torch.float64)
        with collect_layer_inputs(model) as inputs:
            model(batch)
        found = features_distance(inputs, recovered)
        (slope,) = torch.autograd.grad(found, batch)
        expected = torch.zeros((), dtype=torch.float64)
        for one, other in zip(model[:7](batch).flatten(), recovered.flatten(), strict=True):
            expected = expected + (one - other) ** 2 / 10
        (other_slope,) = torch.autograd.grad(expected, batch)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(slope, other_slope, rtol=1e-6, atol=1e-12)

    @pytest.mark.parametrize(
        "model", [nn.Conv2d(1, 2, 3), nn.Linear(3, 2, bias=False)], ids=["none", "no-bias"]
    )
    def test_without_a_biased_linear_layer_it_is_refused(self, model):
        gradient = {name: torch.ones_like(p) for name, p in model.named_parameters()}
        with pytest.raises(ValueError, match="whose last layer has a bias"):
            recovered_features(model, gradient, torch.tensor([0]))

    def test_nothing_heard_is_refused(self):
        with pytest.raises(ValueError, match="no linear layer"):
            features_distance(LayerInputs(), torch.zeros(1, 3))
