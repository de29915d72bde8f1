"""Distances of features, against features worked out by hand."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from fedlab.metrics.features import feature_distance, logit_distance, lpips


class Backwards(nn.Module):
    """Its layers are registered in another order than they run in."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.norm = nn.BatchNorm2d(2)
        self.body = nn.Linear(2 * 36, 4)
        self.conv = nn.Conv2d(1, 2, 3)
        self.unused = nn.Linear(3, 3)

    def features(self, images: Tensor) -> Tensor:
        return torch.relu(self.body(self.norm(self.conv(images)).flatten(1)))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


@pytest.fixture
def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Backwards()
        net(torch.rand(16, 1, 8, 8))  # running statistics that are not 0 and 1
    return net


@pytest.fixture
def pair(digits: Tensor) -> tuple[Tensor, Tensor]:
    return digits[:5], digits[20:25] + 0.1


def test_features_are_last_linear_inputs(network: nn.Module, pair: tuple[Tensor, Tensor]) -> None:
    truth, guess = pair
    found = feature_distance(network, truth, guess)
    network.eval()
    with torch.no_grad():
        difference = network.features(truth) - network.features(guess.clamp(0, 1))
    torch.testing.assert_close(found, difference.double().square().mean(1), atol=1e-7, rtol=1e-5)
    assert (found > 1e-4).all()
    assert feature_distance(network, truth, truth).tolist() == [0.0] * 5


def test_logits_of_the_true_labels_are_compared(
    network: nn.Module, pair: tuple[Tensor, Tensor]
) -> None:
    truth, guess = pair
    labels = torch.tensor([0, 2, 1, 1, 0])
    found = logit_distance(network, truth, guess, labels=labels)
    network.eval()
    with torch.no_grad():
        one, other = network(truth), network(guess.clamp(0, 1))
    expected = [float(one[i, label] - other[i, label]) ** 2 for i, label in enumerate(labels)]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


def test_a_network_is_left_as_it_was(network: nn.Module, pair: tuple[Tensor, Tensor]) -> None:
    network.train()
    network.norm.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    whole = feature_distance(network, *pair)
    lpips(*pair, backbone=network, layers=["conv"], weights=[torch.ones(2)])
    assert network.training
    assert network.conv.training
    assert not network.norm.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    for module in network.modules():
        assert not module._forward_pre_hooks
        assert not module._forward_hooks
    network.norm.train()
    alone = feature_distance(network, pair[0][:1], pair[1][:1])
    torch.testing.assert_close(alone, whole[:1], atol=1e-7, rtol=1e-5)


def test_hooks_go_even_if_the_network_fails(network: nn.Module) -> None:
    wrong = torch.rand(1, 1, 4, 4)
    with pytest.raises(RuntimeError):
        feature_distance(network, wrong, wrong)
    with pytest.raises(RuntimeError):
        lpips(wrong, wrong, backbone=network, layers=["conv"], weights=[torch.ones(2)])
    for module in network.modules():
        assert not module._forward_pre_hooks
        assert not module._forward_hooks


def test_a_network_in_double_is_fed_doubles(
    network: nn.Module, pair: tuple[Tensor, Tensor]
) -> None:
    single = feature_distance(network, *pair)
    torch.testing.assert_close(
        feature_distance(network.double(), *pair), single, atol=1e-6, rtol=1e-4
    )


def test_a_network_without_linear_layers_is_refused(pair: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match="no linear layer ran"):
        feature_distance(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()), *pair)


@pytest.fixture
def backbone() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.Conv2d(3, 4, 3, stride=2), nn.ReLU()
        )


def test_lpips_is_the_formula(backbone: nn.Sequential, pair: tuple[Tensor, Tensor]) -> None:
    weights = [torch.tensor([0.5, 0.0, 2.0]), torch.tensor([1.0, 0.1, 0.2, 3.0])]
    # Layer 0 is followed by an activation that overwrites it.
    found = lpips(*pair, backbone=backbone, layers=["0", "3"], weights=weights)
    double = lpips(*pair, backbone=deepcopy(backbone).double(), layers=["0", "3"], weights=weights)
    torch.testing.assert_close(double, found, atol=1e-6, rtol=1e-4)
    for index in range(5):
        expected = 0.0
        for depth, weight in ((1, weights[0]), (4, weights[1])):
            with torch.no_grad():
                sides = []
                for images in pair:
                    x = images[index : index + 1].clamp(0, 1)
                    sides.append(backbone[0](x) if depth == 1 else backbone[:depth](x))
            places = []
            for row in range(sides[0].shape[2]):
                for column in range(sides[0].shape[3]):
                    x, y = (side[0, :, row, column] for side in sides)
                    x, y = x / (x.norm() + 1e-10), y / (y.norm() + 1e-10)
                    places.append(float((weight * (x - y) ** 2).sum()))
            expected += sum(places) / len(places)
        assert found[index].item() == pytest.approx(expected, rel=1e-4)


def test_lpips_ignores_feature_scale(backbone: nn.Sequential, pair: tuple[Tensor, Tensor]) -> None:
    flat = torch.tensor([0.2, 1.0, 0.7])
    shaped = flat.view(1, 3, 1, 1)
    one = lpips(*pair, backbone=backbone, layers=["0"], weights=[flat])
    with torch.no_grad():
        backbone[0].weight *= 7
        backbone[0].bias *= 7
    other = lpips(*pair, backbone=backbone, layers=["0"], weights=[shaped])
    torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)
    assert lpips(pair[0], pair[0], backbone=backbone, layers=["0"], weights=[flat]).eq(0).all()


@pytest.mark.parametrize(
    ("layers", "weights", "message"),
    [
        ([], [], "weights for each layer"),
        (["0"], [torch.ones(3), torch.ones(3)], "weights for each layer"),
        (["0"], [torch.tensor([1.0, -0.1, 1.0])], "at least 0"),
        (["0"], [torch.ones(4)], "4 weights do not fit layer '0'"),
        (["conv1"], [torch.ones(4)], "no layer 'conv1'"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    backbone: nn.Sequential,
    pair: tuple[Tensor, Tensor],
    layers: list[str],
    weights: list[Tensor],
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        lpips(*pair, backbone=backbone, layers=layers, weights=weights)


def test_a_layer_that_does_not_run_is_refused(
    network: nn.Module, pair: tuple[Tensor, Tensor]
) -> None:
    with pytest.raises(ValueError, match="'unused' of the backbone did not run"):
        lpips(*pair, backbone=network, layers=["unused"], weights=[torch.ones(3)])
