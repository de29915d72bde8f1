"""Networks fit their images, start from a seed, and can be trained with DP-SGD or say why not."""

import pytest
import torch
from torch import nn

from fedlab import BadInput
from fedlab.models import MODELS, build
from fedlab.models.checks import misfit, private_training_problem

SHAPES = ((1, 8, 8), (1, 28, 28), (3, 32, 32))


class Tampering(nn.Module):
    """A residual network whose add works in place, or whose ReLU does."""

    def __init__(self, *, add: bool, relu: bool) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu, self.head = nn.ReLU(inplace=relu), nn.Linear(256, 10)
        self.add = add

    def forward(self, images):
        first = self.relu(self.one(images))
        second = self.two(first)
        if self.add:
            second += first
        else:
            second = second + first
        return self.head(self.relu(second).flatten(1))


def raising(shape, classes):
    raise KeyError("weights")


def plain(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))


def widening(shape, classes, width=3):
    pixels = shape[0] * shape[1] * shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, width), nn.Linear(width, classes))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", MODELS.builtin)
def test_own_networks_fit_and_train_privately(name, shape):
    if name == "convnet8" and shape == (1, 8, 8):
        with pytest.raises(BadInput, match="at least 9x9"):
            build(name, shape=shape, classes=7)
        return
    norm = "group" if name.startswith(("conv", "res")) else None
    width = 8 if name != "mlp" else None
    network = build(name, shape=shape, classes=7, width=width, norm=norm)
    assert network(torch.zeros(3, *shape)).shape == (3, 7)
    assert private_training_problem(network, shape) is None


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # From the layers: convnet8 as its authors' overview prints it; the ResNets by hand.
        ("convnet8", 2_904_970),
        ("resnet20", 272_474),
        ("lenet", 15_826),
    ],
)
def test_networks_have_their_published_sizes(name, parameters):
    network = build(name, shape=(3, 32, 32), classes=10)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_weights_follow_the_seed_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, same, other = (build("convnet", shape=(1, 8, 8), classes=3, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [next(network.parameters()) for network in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_lenet_has_zhus_layers_and_weights():
    network = build("lenet", shape=(3, 32, 32), classes=100)
    assert sum(isinstance(m, nn.Sigmoid) for m in network.modules()) == 3
    for parameter in (p.detach() for p in network.parameters()):
        assert parameter.abs().max() <= 0.5
        if parameter.numel() > 1000:
            assert float(parameter.std()) == pytest.approx(
                1 / 12**0.5, rel=0.05
            )  # uniform in +-0.5


@pytest.mark.parametrize("name", ["convnet", "convnet8", "resnet8"])
@pytest.mark.parametrize(
    ("norm", "kind"), [("group", nn.GroupNorm), ("batch", nn.BatchNorm2d), ("none", None)]
)
def test_norm_chooses_the_normalisation_layers(name, norm, kind):
    network = build(name, shape=(3, 32, 32), classes=10, width=8, norm=norm)
    kinds = (nn.GroupNorm, nn.BatchNorm2d)
    assert {type(m) for m in network.modules() if isinstance(m, kinds)} == (
        {kind} if kind else {*()}
    )


def test_group_norm_treats_images_separately():
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for norm, alone in (("group", True), ("batch", False)):
        network = build("resnet8", shape=(3, 32, 32), classes=10, norm=norm).train()
        same = torch.allclose(network(images)[:2], network(images[:2]), atol=1e-5)
        assert same is alone


def test_torchvision_networks_take_grey_and_groups():
    network = build("squeezenet1_1", shape=(1, 64, 64), classes=5)
    assert network(torch.zeros(2, 1, 64, 64)).shape == (2, 5)
    assert not any(getattr(m, "inplace", False) for m in network.modules())
    network = build("vgg11_bn", shape=(3, 32, 32), classes=5, norm="group")
    assert any(isinstance(m, nn.GroupNorm) for m in network.modules())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("math:sqrt", {}, "must take shape="),
        ("no.such:make", {}, 'model "no.such:make" cannot be imported'),
        ("tests.models.test_models:raising", {}, "cannot be built: KeyError: 'weights'"),
        ("tests.models.test_models:plain", {"width": 4}, "no free width"),
        ("factory", {"factory": "nonsense"}, "must be written as package.module:function"),
        ("convnett", {}, 'did you mean "convnet"'),
        ("alexnet", {}, "does not take images of 1x8x8"),
        ("squeezenet1_1", {"width": 4}, "no free width"),
        ("lenet", {"norm": "group"}, "has no normalisation"),
        ("mlp", {"norm": "batch"}, "has no normalisation"),
        ("factory", {"factory": "math:sqrt"}, "must take shape="),
        ("factory", {"factory": "collections:OrderedDict"}, "must return a torch"),
    ],
)
def test_a_network_that_cannot_be_built_is_named(name, options, sentence):
    with pytest.raises(BadInput, match=sentence) as raised:
        build(name, shape=(1, 8, 8), classes=10, **options)
    assert "\n" not in str(raised.value)


def test_a_factory_builds_the_users_network(tmp_path, monkeypatch):
    (tmp_path / "my_networks.py").write_text(
        "from torch import nn\n\n"
        "def small(shape, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] ** 2, classes))\n\n"
        "def wrong(shape, classes):\n"
        "    return small(shape, classes + 1)\n"
    )
    monkeypatch.chdir(tmp_path)
    network = build("factory", shape=(1, 8, 8), classes=4, factory="my_networks:small")
    assert network(torch.zeros(1, 1, 8, 8)).shape == (1, 4)
    with pytest.raises(BadInput, match=r"must give \[2, 4\], but gives \[2, 5\]"):
        build("factory", shape=(1, 8, 8), classes=4, factory="my_networks:wrong")


def test_a_model_by_import_path_gets_the_width():
    name = "tests.models.test_models:widening"
    assert build(name, shape=(1, 8, 8), classes=4)[1].out_features == 3
    assert build(name, shape=(1, 8, 8), classes=4, width=7)[1].out_features == 7
    assert build(name, shape=(1, 8, 8), classes=4, norm="none")[1].out_features == 3


@pytest.mark.parametrize(
    ("network", "fix"),
    [
        (Tampering(add=True, relu=False), "out = out + shortcut"),
        (Tampering(add=False, relu=True), "inplace=False"),
        (nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten()), "GroupNorm"),
        (nn.Sequential(nn.Flatten(), nn.LSTM(64, 10)), "one row of outputs for each image"),
    ],
)
def test_an_untrainable_network_names_the_fix(network, fix):
    problem = private_training_problem(network, (1, 8, 8))
    assert problem is not None
    assert fix in problem


def test_the_trial_changes_nothing_in_the_network():
    network = Tampering(add=False, relu=False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert private_training_problem(network, (1, 8, 8)) is None
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.grad is None and not hasattr(p, "grad_sample") for p in network.parameters())
    assert not any(m._forward_hooks for m in network.modules())


def test_the_check_keeps_modes_and_buffers():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(10))
    network(torch.zeros(2, 1, 8, 8))
    network.train()[1].eval()  # frozen on purpose
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert misfit(network, (1, 8, 8), 10) is None
    assert "must give [2, 7]" in misfit(network, (1, 8, 8), 7)
    assert [layer.training for layer in network] == [True, False, True, True]
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
