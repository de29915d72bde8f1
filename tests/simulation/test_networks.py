"""Whatever network a user brings: a finished round, or one sentence that names it."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.models import VisionTransformer

from fedlab import BadInput, Federation, RunFailed
from fedlab.core.network_errors import NetworkFailed, naming_network
from tests.federations import small

HERE = "tests.simulation.test_networks"


class Net(nn.Module):
    """A linear layer, and a function of the network and its outputs."""

    def __init__(self, classes, change=lambda net, outputs: outputs):
        super().__init__()
        self.linear, self.change = nn.Linear(64, classes), change

    def forward(self, images):
        return self.change(self, self.linear(images.flatten(1)))


class Attention(nn.Module):
    """Fused attention over the rows of an image."""

    def __init__(self, classes):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.linear = nn.Linear(8, classes)

    def forward(self, images):
        rows = images.squeeze(1)
        return self.linear(self.attention(rows, rows, rows, need_weights=False)[0].mean(1))


class Recurrent(nn.Module):
    """An LSTM over the rows of an image."""

    def __init__(self, classes):
        super().__init__()
        self.lstm = nn.LSTM(8, classes, batch_first=True)

    def forward(self, images):
        return self.lstm(images.squeeze(1))[0][:, -1]


def in_training(action):
    return lambda net, outputs: action(net, outputs) if net.training else outputs


def leave(net, outputs):
    raise SystemExit(3)


def fails_for_many(net, outputs):
    if len(outputs) > 10:
        raise KeyError("of my own")
    return outputs


NETWORKS = {
    "attention": Attention,
    "recurrent": Recurrent,
    "scripted": lambda classes: torch.jit.script(
        nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
    ),
    "traced": lambda classes: torch.jit.trace(
        nn.Sequential(nn.Flatten(), nn.Linear(64, classes)), torch.zeros(2, 1, 8, 8)
    ),
    "old weight norm": lambda classes: nn.Sequential(
        nn.Flatten(), nn.utils.weight_norm(nn.Linear(64, 8)), nn.ReLU(), nn.Linear(8, classes)
    ),
    "weight norm": lambda classes: nn.Sequential(
        nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(64, classes))
    ),
    "spectral norm": lambda classes: nn.Sequential(
        nn.Flatten(), nn.utils.parametrizations.spectral_norm(nn.Linear(64, classes))
    ),
    "lazy": lambda classes: nn.Sequential(
        nn.LazyConv2d(2, 3), nn.Flatten(), nn.LazyLinear(classes)
    ),
    "fails for many": lambda classes: Net(classes, fails_for_many),
    "seldom used": lambda classes: Seldom(classes),
    "transformer": lambda classes: TinyTransformer(classes),
    "no second derivative": lambda classes: Net(
        classes, lambda net, outputs: functional.hardsigmoid(outputs)
    ),
    "half precision inside": lambda classes: Net(classes, lambda net, x: x.bfloat16().float()),
}


class Seldom(nn.Module):
    """Another layer for large batches than for those of the trial."""

    def __init__(self, classes):
        super().__init__()
        self.usual, self.seldom = nn.Linear(64, classes), nn.Linear(64, classes)

    def forward(self, images):
        return (self.seldom if len(images) > 3 else self.usual)(images.flatten(1))


class TinyTransformer(nn.Module):
    """Torchvision's vision transformer for grey images of 8x8 pixels."""

    def __init__(self, classes):
        super().__init__()
        self.vit = VisionTransformer(8, 4, 1, 2, 8, 16, num_classes=classes)
        nn.init.normal_(self.vit.heads.head.weight)

    def forward(self, images):
        return self.vit(images.expand(-1, 3, -1, -1))


class Half(Net):
    """A network of bfloat16."""

    def forward(self, images):
        return self.linear(images.flatten(1).bfloat16()).float()


REFUSED = {
    "returns a tuple in training": (
        lambda classes: Net(classes, in_training(lambda net, x: (x, x))),
        "cannot be trained: TypeError",
    ),
    "raises in training": (
        lambda classes: Net(classes, in_training(lambda net, x: net.missing(x))),
        "cannot be trained: AttributeError.*missing",
    ),
    "leaves in training": (lambda classes: Net(classes, in_training(leave)), "SystemExit: 3"),
    "leaves": (lambda classes: Net(classes, leave), "does not take images"),
    "detached": (lambda classes: Net(classes, lambda net, x: x.detach()), "not require grad"),
    "frozen": (lambda classes: Net(classes).requires_grad_(False), "not require grad"),
    "no parameters": (
        lambda classes: nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(classes)),
        "no parameters",
    ),
    "whole numbers": (lambda classes: Net(classes, lambda net, x: x.long()), "torch.int64"),
    "bfloat16": (lambda classes: Half(classes).bfloat16(), '"linear.weight" is torch.bfloat16'),
    "a batch of one": (
        lambda classes: nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10)),
        "batch of one image, which client 0 .*give the leaking role batch_size = 2",
    ),
}


def of_name(name):
    def make(shape, classes):
        torch.manual_seed(0)
        found = NETWORKS.get(name) or REFUSED[name][0]
        return found(classes)

    return make


def __getattr__(name):  # a factory for each name
    if name in NETWORKS or name in REFUSED:
        return of_name(name)
    raise AttributeError(name)


TABLES = {
    "data": {"train": 48, "test": 40, "clients": 2},
    "roles": [{"role": "leaking", "clients": "0", "batch_size": 1}],
    "reconstructions": [{"clients": "0", "iterations": 2, "restarts": 1}],
}


def scenario(name, **tables):
    return small("rounds=1", **{"model": {"name": f"{HERE}:{name}"}, **TABLES, **tables})


@pytest.mark.filterwarnings("ignore:.*(weight_norm|torch.jit|dynamic Python)")
@pytest.mark.parametrize("defenses", [[], [{"name": "dp-sgd"}]], ids=["plain", "private"])
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "fails for many"])
def test_round_and_attack_end_with_any_network(name, defenses):
    (row,) = Federation(scenario(name, defenses=defenses)).step().leakage
    assert bool(row.skipped) is (name in ("no second derivative", "scripted", "traced"))
    assert not row.skipped or f'model "{HERE}:{name}" failed' in row.skipped


@pytest.mark.parametrize("name", REFUSED)
def test_network_that_cannot_take_part_is_refused(name):
    with pytest.raises(BadInput, match=REFUSED[name][1]) as refused:
        Federation(scenario(name))
    assert name in str(refused.value)


def test_last_batch_of_one_image_names_a_size_that_works():
    """Each of two clients has 33 images."""
    honest = {"roles": [], "reconstructions": []}
    name = "a batch of one"
    with pytest.raises(BadInput, match="batch_size = 17, or use GroupNorm") as refused:
        Federation(scenario(name, data={"train": 66, "test": 40, "clients": 2}, **honest))
    assert "client 0 with its 33 images has in round 1" in str(refused.value)
    training = {"batch_size": 17}
    Federation(
        scenario(name, data={"train": 66, "test": 40, "clients": 2}, training=training, **honest)
    ).step()


def test_network_that_fails_in_large_batches_is_named():
    with pytest.raises(RunFailed, match=r'fails for many" failed: KeyError: .of my own'):
        Federation(scenario("fails for many"))


def test_only_errors_of_the_network_get_its_name():
    with pytest.raises(NetworkFailed, match="mine failed: KeyError"), naming_network("mine"):
        Net(10, fails_for_many)(torch.zeros(11, 64))
    with pytest.raises(KeyError), naming_network("mine"):
        {}["bug of ours"]
