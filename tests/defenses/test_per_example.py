"""The mode that `auto` chooses: by the measured rule, or another if that fails."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from fedlab.core.errors import BadInput
from fedlab.defenses.dp_sgd import DPSGD
from fedlab.defenses.per_example import fastest, fitting
from fedlab.models import build
from fedlab.models.checks import private_training_problem
from fedlab.simulation.federation import Federation
from tests.federations import small

SHAPE = (1, 8, 8)


@pytest.mark.parametrize(
    ("name", "width", "size", "flat", "mode"),
    [
        ("mlp", None, 16, True, "ghost"),
        ("mlp", None, 16, False, "ew"),
        ("lenet", None, 16, True, "ew"),
        ("convnet", None, 16, True, "hooks"),
        ("convnet", None, 64, True, "ew"),
        ("convnet", 8, 16, True, "ew"),
        ("resnet8", None, 64, True, "hooks"),
    ],
)
def test_auto_follows_the_measured_rule(name, width, size, flat, mode):
    model = build(name, shape=SHAPE, classes=10, width=width)
    assert fastest(model, SHAPE, batch_size=size, flat=flat) == mode


class Scaled(nn.Module):
    """A convolution and a linear layer, with an operation that some modes cannot handle."""

    def __init__(self, trouble):
        super().__init__()
        self.conv, self.linear, self.trouble = nn.Conv2d(1, 4, 3), nn.Linear(144, 10), trouble

    def forward(self, images):
        found = self.conv(images)
        if self.trouble == "in place":
            found += 1
        if self.trouble == "weight elsewhere":
            found = found * torch.sigmoid(self.conv.bias).view(1, -1, 1, 1)
        return self.linear(functional.relu(found).flatten(1))


def test_auto_avoids_modes_that_fail():
    assert fastest(Scaled("none"), SHAPE, batch_size=64, flat=True) == "ew"
    assert fastest(Scaled("weight elsewhere"), SHAPE, batch_size=64, flat=True) == "loop"


def test_auto_avoids_hooks_that_fail():
    model = Scaled("in place")
    model.conv = nn.Conv2d(1, 64, 3)
    model.linear = nn.Linear(64 * 36, 10)
    assert "out = out + shortcut" in private_training_problem(model, SHAPE, "hooks")
    assert fastest(model, SHAPE, batch_size=4, flat=True) == "ew"
    assert private_training_problem(model, SHAPE, "auto") is None


def test_many_entries_cost_one_trial(monkeypatch):
    tried = []
    place = "fedlab.defenses.per_example"
    monkeypatch.setattr(f"{place}.separation_problem", lambda *of: tried.append((of[1], "loop")))
    monkeypatch.setattr(f"{place}.mode_problem", lambda *of: tried.append(of[1:]))
    model = Scaled("none")
    for noise in (0.5, 1.0, 2.0):
        assert DPSGD(noise_multiplier=noise).network_problem(model, SHAPE) is None
    assert tried == [(SHAPE, "loop")]
    DPSGD(per_example="ew").network_problem(model, SHAPE)
    DPSGD().network_problem(model, (1, 9, 9))
    DPSGD().network_problem(Scaled("none"), SHAPE)
    assert tried[1:] == [(SHAPE, "ew"), ((1, 9, 9), "loop"), (SHAPE, "loop")]


@pytest.mark.parametrize("mode", ["hooks", "ew", "functorch", "ghost", "auto"])
def test_no_mode_accepts_batch_norm(mode):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10))
    assert "GroupNorm" in private_training_problem(model, SHAPE, mode)


SCALED = """
from tests.defenses.test_per_example import Scaled

def make(shape, classes):
    return Scaled("weight elsewhere")
"""


def test_unusable_mode_is_refused_before_the_run(tmp_path, monkeypatch):
    (tmp_path / "scaled.py").write_text(SCALED)
    monkeypatch.chdir(tmp_path)
    network = ["model.name='factory'", "model.factory='scaled:make'", "rounds=1"]
    private = {"name": "dp-sgd", "clients": "1"}
    with pytest.raises(BadInput, match='set per_example = "auto"'):
        Federation(small(*network, defenses=[private | {"per_example": "ew"}]))
    federation = Federation(small(*network, defenses=[private]))
    with pytest.raises(BadInput, match='"ew" cannot take it'):
        federation.toggle("dp-sgd", on=True, clients=[0], per_example="ew")
    assert federation.step()


def test_number_of_gradients_that_fit_in_memory():
    model = nn.Linear(256, 256, bias=False)  # 256 KiB in float32
    assert fitting(model, 1.0) == 4
    assert fitting(model, 1.2) == 4
    assert fitting(model, 0.01) == 1
