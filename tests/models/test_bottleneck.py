"""A variational bottleneck: its draws, its part of the loss, and its place in networks."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from attacks.payload import Payload
from attacks.reconstruction import PRESETS
from attacks.reconstruction.defended import adapted
from attacks.reconstruction.objectives import bottleneck
from fedlab import BadInput
from fedlab.models import MODELS, build
from fedlab.models.bottleneck import WEIGHT, VariationalBottleneck, divergence
from fedlab.models.checks import private_training_problem
from tests.defenses.updates import known
from tests.federations import finished, small


def network(latent=5, name="convnet", **options):
    return build(name, shape=(1, 8, 8), classes=10, bottleneck=latent, **options)


def test_divergence_is_that_of_normal_distributions():
    mean, deviation = (
        torch.tensor([[0.3, -1.0], [0.0, 2.0]]),
        torch.tensor([[0.5, 2.0], [1.0, 1.5]]),
    )
    normal = torch.distributions.Normal
    each = torch.distributions.kl_divergence(normal(mean, deviation), normal(0.0, 1.0))
    expected = float(each.sum(1).mean()) / math.log(2)
    assert float(divergence(mean, deviation)) == pytest.approx(expected, rel=1e-6)
    assert float(divergence(mean[:0], deviation[:0])) == 0


def drawn(layer, features):
    torch.manual_seed(1)
    return layer(features)


def test_output_is_a_decoded_draw():
    layer = VariationalBottleneck(7, 3)
    features = torch.randn(4, 7)
    mean, spread = layer.encoder(features).split(3, dim=1)
    torch.manual_seed(1)
    draw = mean + functional.softplus(spread) * torch.randn(4, 3)
    torch.testing.assert_close(drawn(layer, features), layer.decoder(draw))
    assert not torch.equal(layer(features), layer(features))
    assert not torch.equal(layer.eval()(features), layer(features))


@pytest.mark.parametrize("training", [True, False])
def test_loss_includes_the_divergence_in_training(training):
    """First and second derivatives equal those of a loss with the divergence written out."""
    layer = VariationalBottleneck(7, 3).double().train(training)
    features = torch.randn(4, 7, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 3, 6, 1])

    def derivatives(loss):
        slopes = torch.autograd.grad(loss, list(layer.parameters()), create_graph=True)
        total = torch.stack([slope.square().sum() for slope in slopes]).sum()
        return [*slopes, *torch.autograd.grad(total, features)]

    found = derivatives(functional.cross_entropy(drawn(layer, features), labels))
    mean, spread = layer.encoder(features).split(3, dim=1)
    penalty = WEIGHT * divergence(mean, functional.softplus(spread))
    layer.eval()
    loss = functional.cross_entropy(drawn(layer, features), labels)
    expected = derivatives(loss + penalty if training else loss)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", [n for n in MODELS.builtin if n != "convnet8"])
def test_bottleneck_stands_before_the_last_layer(name):
    model = network(name=name)
    names = [key for key, _ in model.named_parameters()]
    assert [".".join(key.split(".")[-3:]) for key in names[-6:-2]] == [
        "bottleneck.encoder.weight",
        "bottleneck.encoder.bias",
        "bottleneck.decoder.weight",
        "bottleneck.decoder.bias",
    ]
    plain = build(name, shape=(1, 8, 8), classes=10)
    shared = dict(plain.named_parameters())
    same = [key for key in names if key in shared]
    assert len(same) == len(shared) - 2
    assert all(torch.equal(model.get_parameter(key), shared[key]) for key in same)


def only_convolutions(shape, classes):
    return nn.Sequential(nn.Conv2d(shape[0], classes, shape[1]), nn.Flatten())


def test_network_without_a_linear_layer_is_refused():
    with pytest.raises(BadInput, match="the network has none"):
        build(f"{__name__}:only_convolutions", shape=(1, 8, 8), classes=3, bottleneck=4)


def test_rounds_and_evaluation_are_repeatable():
    run = small(
        rounds=2,
        model={"name": "convnet", "width": 4, "bottleneck": 8},
        reconstructions=[{"clients": "0", "iterations": 1, "rounds": "2"}],
        data={"train": 16, "test": 20, "clients": 4},
    )
    one, other = finished(run), finished(run)
    assert [r.loss for r in one.folder.rounds()] == [r.loss for r in other.folder.rounds()]
    assert one.folder.table("leakage").payload_cosine[0] > 0.99999


def test_dp_sgd_trains_it_image_by_image():
    assert private_training_problem(network(), (1, 8, 8), "auto") is None
    run = small(rounds=1, model={"name": "convnet", "width": 4, "bottleneck": 8})
    federation = finished(run.changed(defenses=[{"name": "dp-sgd", "clients": "0"}]))
    assert set(federation.folder.table("clients")["status"]) == {"ok"}


def test_attack_compares_what_noise_does_not_reach():
    tensors = {name: torch.ones_like(p) for name, p in network().named_parameters()}
    payload = Payload("gradient", tensors, num_examples=1, steps=1)
    assert adapted(PRESETS["fast"], payload, known()).objective == "bottleneck"
    named = {f"bottleneck.{n}.weight": torch.ones(2, 2) for n in range(2)}  # of another kind
    other = Payload("gradient", named, num_examples=1, steps=1)
    assert adapted(PRESETS["fast"], other, known()) == PRESETS["fast"]


def test_features_are_read_from_a_gradient():
    """The distance between two draws for the same image is that of the layers before alone."""
    model = network(latent=30)
    image, label = torch.randn(1, 1, 8, 8), torch.tensor([3])

    def drawn_gradient(image):
        names, parameters = zip(*model.named_parameters(), strict=True)
        loss = functional.cross_entropy(model(image), label)
        return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))

    sent, again = drawn_gradient(image), drawn_gradient(image)
    first = next(key for key in sent if key.endswith("encoder.weight"))
    assert not torch.allclose(sent[first], again[first], rtol=0.1)
    behind = {key: sent[key] for key in list(sent)[list(sent).index(first) :]}
    assert float(bottleneck(behind)(again)) < 1e-6
    assert float(bottleneck(behind)(drawn_gradient(image + 1))) > 0.01
