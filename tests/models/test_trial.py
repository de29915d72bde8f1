"""The trial of DP-SGD finds by numbers which networks treat each image by itself."""

import random

import pytest
import torch
from torch import nn
from torch.nn import functional

from fedlab.defenses.per_example import fastest
from fedlab.models.checks import private_training_problem
from tests.defenses.private import flat, opened

SHAPE = (3, 8, 8)


class Net(nn.Module):
    """A convolution, GroupNorm and a linear layer around a function of the case."""

    def __init__(
        self, change=lambda net, images: images, fold=lambda net, images: net.body(images)
    ):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.GroupNorm(4, 8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(32, 4),
        )
        self.register_buffer("seen", torch.zeros(3, 1, 1))
        self.memory = 0.0
        self.change, self.fold = change, fold

    def forward(self, images):
        return self.fold(self, self.change(self, images))


def flipped(net, images):
    return net.body(torch.cat([images, images.flip(-1)])).view(2, len(images), -1).mean(0)


def cropped(net, images):
    corners = [images[..., a : a + 4, b : b + 4] for a in (0, 4) for b in (0, 4)]
    found = net.body(torch.stack(corners, 1).flatten(0, 1))
    return found.view(len(images), 4, -1).mean(1)


def tied(net, images):
    return net.body(images) @ net.body[5].weight[:, :4]


def running_mean(net, images):
    net.seen.mul_(0.9).add_(images.detach().mean(0).mean((1, 2), keepdim=True), alpha=0.1)
    return images - net.seen


def statistics_only(net, images):
    net.seen.add_(images.detach().mean((0, 2, 3))[:, None, None])
    return images


def remember(net, images):
    images, net.memory = images + net.memory, images.detach().mean()
    return images


def rescale_weights(net, images):
    with torch.no_grad():
        net.body[5].weight.mul_(1 + images.mean())
    return images


def branch_on_the_batch(net, images):
    return images if images.mean() < 0.6 else -images


def mixed(net, images):
    return images + 0.01 * images[torch.randperm(len(images))]


def functional_dropout(net, images):
    return functional.dropout(images, 0.5, net.training)


def draw_for_each_image(net, images):
    return images * torch.rand(len(images), 1, 1, 1)


class LastState(nn.Module):
    """An LSTM over the rows of an image."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(64, 4, batch_first=True)

    def forward(self, images):
        return self.lstm(images.flatten(2))[0][:, -1]


TREATS_EACH_IMAGE = {
    "plain": (Net(), "hooks"),
    "constant buffer": (Net(lambda net, images: images - net.seen), "hooks"),
    "functional dropout": (Net(functional_dropout), "hooks"),
    "noise": (Net(lambda net, images: images + torch.randn_like(images)), "hooks"),
    "a draw for each image": (Net(draw_for_each_image), "hooks"),
    "a draw of Python": (Net(lambda net, images: images * random.random()), "hooks"),
    "flips in the batch": (Net(fold=flipped), "loop"),
    "crops in the batch": (Net(fold=cropped), "loop"),
    "weights used by hand": (Net(fold=tied), "loop"),
    "LSTM": (LastState(), "loop"),
}


def batch_norm(net, images):
    mean, variance = torch.zeros(3), torch.ones(3)
    return functional.batch_norm(images, mean, variance, training=net.training)


COUPLES_IMAGES = {
    "functional batch norm": Net(batch_norm),
    "softmax over images": Net(lambda net, images: images.softmax(0)),
    "share of the batch": Net(lambda net, images: images / len(images)),
    "branch on the batch": Net(branch_on_the_batch),
    "mixed images": Net(mixed),
    "channels in the batch": Net(
        fold=lambda net, images: net.body(images.transpose(0, 1).reshape(images.shape))
    ),
    "running mean": Net(running_mean),
}


@pytest.mark.parametrize("name", TREATS_EACH_IMAGE)
def test_image_moves_the_sum_by_at_most_the_norm(name):
    network, mode = TREATS_EACH_IMAGE[name]
    assert private_training_problem(network, SHAPE, "auto") is None
    assert fastest(network, SHAPE, batch_size=5, flat=True) == mode
    with opened(network, norm=1e-3, expected=1, mode=mode) as gradient:
        gradient(torch.rand(1, *SHAPE), torch.tensor([1]))
        moved = flat(network).norm()
    assert float(moved) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("name", COUPLES_IMAGES)
def test_network_that_couples_images_is_refused(name):
    problem = private_training_problem(COUPLES_IMAGES[name], SHAPE, "auto")
    assert "images of a batch influence each other" in problem


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (Net(statistics_only), 'buffer "seen" depends on the images'),
        (Net(remember), "depends on the images before it"),
        (Net(rescale_weights), "changes its own parameters"),
        (Net(lambda net, images: images / 0), "not finite"),
        (Net(fold=lambda net, images: net.body(images).detach()), "does not require grad"),
        (Net(fold=lambda net, images: (net.body(images), images)), "one row of outputs"),
        (Net(fold=lambda net, images: net.missing(images)), "no attribute 'missing'"),
        (Net().requires_grad_(False), "none of its parameters is trained"),
        (nn.Flatten(), "none of its parameters is trained"),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_network_that_cannot_be_trained_is_refused(network, sentence):
    assert sentence in private_training_problem(network, SHAPE, "auto")


def exits(net, images):
    raise SystemExit


def test_network_that_exits_is_refused():
    assert "SystemExit" in private_training_problem(Net(exits), SHAPE, "auto")


@pytest.mark.parametrize("mode", ["hooks", "ew", "functorch", "ghost"])
@pytest.mark.parametrize("padding", ["circular", "reflect", "replicate"])
def test_mode_with_other_gradients_is_refused(mode, padding):
    """Opacus forgets the padding of a convolution unless it is with zeros."""
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, padding_mode=padding), nn.Flatten(), nn.Linear(512, 4)
    )
    problem = private_training_problem(network, SHAPE, mode)
    assert (problem is None) is (mode in ("ew", "functorch"))
    assert problem is None or '"0.weight"' in problem


CONVOLUTIONS = [
    {"padding": pad, "padding_mode": mode, "groups": groups, "dilation": wide, "stride": stride}
    for pad, mode in ((0, "zeros"), ((1, 0), "zeros"), ("same", "zeros"), (1, "reflect"))
    for groups in (1, 2)
    for wide, stride in ((1, 1), (2, 1), (1, (2, 1)))
    if pad != "same" or stride == 1
]


@pytest.mark.parametrize("mode", ["hooks", "ew", "functorch", "ghost"])
def test_trial_answers_for_larger_batches(mode):
    """Expanded weights compute batches from 32 images on in another way than those of the trial."""
    accepted = 0
    for settings in CONVOLUTIONS:
        network = nn.Sequential(nn.Conv2d(4, 4, 3, **settings), nn.Flatten(), nn.LazyLinear(3))
        images = torch.rand(33, 4, 6, 6, generator=torch.Generator().manual_seed(0))
        network(images)
        if private_training_problem(network, (4, 6, 6), mode):
            continue
        accepted += 1
        labels = torch.arange(33) % 3
        sums = []
        for each in (mode, "loop"):
            with opened(network, norm=1e-2, expected=1, mode=each) as gradient:
                gradient(images, labels)
                sums.append(flat(network))
        torch.testing.assert_close(*sums, rtol=1e-3, atol=1e-5)
    assert accepted > len(CONVOLUTIONS) / 2


def test_trial_images_differ():
    swap = Net(fold=lambda net, images: net.body(images)[torch.randperm(len(images))])
    assert "influence each other" in private_training_problem(swap, SHAPE, "auto")


def test_dead_layer_hides_nothing():
    def body(net, images):
        alive = functional.relu(images - 1.5)  # dead for pixels below 1.5
        return images + alive.mean(0)

    assert "influence each other" in private_training_problem(Net(body), SHAPE, "auto")


def test_network_for_pixels_above_zero_is_tried_on_them():
    coupled = Net(lambda net, images: images.sqrt().softmax(0))
    assert private_training_problem(Net(lambda net, images: images.sqrt()), SHAPE) is None
    assert "influence each other" in private_training_problem(coupled, SHAPE)
