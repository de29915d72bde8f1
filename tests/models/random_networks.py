"""Random networks for tests: stacks of common layers, folds of the batch, and odd things."""

import torch
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

SHAPE = (2, 8, 8)
CLASSES = 3


class Function(nn.Module):
    """A layer without parameters, made from a function of the layer and its input."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(self, images)


class Residual(nn.Module):
    def __init__(self, body, *, inplace):
        super().__init__()
        self.body, self.inplace_sum = body, inplace

    def forward(self, images):
        found = self.body(images)
        if self.inplace_sum:
            found += images
            return found
        return found + images


class Rows(nn.Module):
    """A sequence layer over the rows of feature maps."""

    def __init__(self, layer, features):
        super().__init__()
        self.layer, self.features = layer, features

    def forward(self, images):
        b, c, h, w = images.shape
        rows = images.permute(0, 2, 1, 3).reshape(b, h, c * w)
        if isinstance(self.layer, nn.MultiheadAttention):
            found = self.layer(rows, rows, rows, need_weights=False)[0]
        else:
            found = self.layer(rows)
        found = found[0] if isinstance(found, tuple) else found
        return found.reshape(b, h, -1, w).permute(0, 2, 1, 3).contiguous()


class Pixels(nn.Module):
    """An embedding of the pixels' values."""

    def __init__(self, **options):
        super().__init__()
        self.embedding = nn.Embedding(8, 2, **options)

    def forward(self, images):
        places = (images.mean(1) * 8).long().clamp(0, 7)
        return self.embedding(places).permute(0, 3, 1, 2)


class Tied(nn.Module):
    """A convolution whose weights are used by hand once more."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, images):
        return functional.conv2d(self.conv(images), self.conv.weight)


class Running(nn.Module):
    """Subtracts a running mean, or only keeps one."""

    def __init__(self, channels, *, used):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.used = used

    def forward(self, images):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * images.detach().mean((0, 2, 3))[:, None, None]
        return images - self.mean if self.used else images


class Folded(nn.Module):
    """Passes several views of each image through a body in one batch, and averages them."""

    def __init__(self, body, kind):
        super().__init__()
        self.body, self.kind = body, kind

    def forward(self, images):
        if self.kind == "flip":
            return self.body(torch.cat([images, images.flip(-1)])).view(2, len(images), -1).mean(0)
        if self.kind == "crops":
            corners = [images[..., a : a + 7, b : b + 7] for a in (0, 1) for b in (0, 1)]
            padded = functional.pad(torch.stack(corners, 1).flatten(0, 1), (0, 1, 0, 1))
            return self.body(padded).view(len(images), 4, -1).mean(1)
        if self.kind == "scramble":  # mixes images and channels
            return self.body(images.transpose(0, 1).reshape(images.shape))
        return self.body(images)


class Seldom(nn.Module):
    """Uses a layer for bright images only."""

    def __init__(self, channels):
        super().__init__()
        self.usual, self.bright = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, images):
        return (self.bright if images.abs().max() > 3 else self.usual)(images)


@st.composite
def convolutions(draw, channels):
    groups = draw(st.sampled_from([1, channels]))
    dilation = draw(st.integers(1, 2))
    mode = draw(st.sampled_from(["zeros", "circular", "reflect", "replicate"]))
    conv = nn.Conv2d(
        channels,
        channels,
        3,
        padding=dilation,
        dilation=dilation,
        groups=groups,
        padding_mode=mode,
        bias=draw(st.booleans()),
    )
    wrap = draw(st.sampled_from([None, None, None, "weight", "spectral", "old", "orthogonal"]))
    if wrap == "weight":
        return nn.utils.parametrizations.weight_norm(conv)
    if wrap == "spectral":
        return nn.utils.parametrizations.spectral_norm(conv)
    if wrap == "old":
        return nn.utils.weight_norm(conv)
    if wrap == "orthogonal":
        return nn.utils.parametrizations.orthogonal(conv)
    return conv


LAYERS = {
    "transposed": lambda c: nn.ConvTranspose2d(c, c, 3, padding=1),
    "transposed groups": lambda c: nn.ConvTranspose2d(c, c, 3, padding=1, groups=c),
    "group norm": lambda c: nn.GroupNorm(1, c),
    "instance norm": lambda c: nn.InstanceNorm2d(c, affine=True),
    "instance norm that tracks": lambda c: nn.InstanceNorm2d(c, track_running_stats=True),
    "layer norm": lambda c: nn.LayerNorm([c, 8, 8]),
    "layer norm without bias": lambda c: nn.LayerNorm([c, 8, 8], bias=False),
    "rms norm": lambda c: nn.RMSNorm([8]),
    "batch norm": lambda c: nn.BatchNorm2d(c),
    "functional batch norm": lambda c: Function(
        lambda layer, x: functional.batch_norm(x, None, None, training=True)
    ),
    "batch norm in training": lambda c: Function(
        lambda layer, x: functional.batch_norm(
            x, torch.zeros(x.shape[1]), torch.ones(x.shape[1]), training=layer.training
        )
    ),
    "local response": lambda c: nn.LocalResponseNorm(2),
    "softmax over images": lambda c: Function(lambda layer, x: x.softmax(0)),
    "batch mean": lambda c: Function(lambda layer, x: x - x.mean(0)),
    "relu": lambda c: nn.ReLU(),
    "relu in place": lambda c: nn.ReLU(inplace=True),
    "prelu": lambda c: nn.PReLU(),
    "rrelu": lambda c: nn.RReLU(),
    "hardsigmoid": lambda c: nn.Hardsigmoid(),
    "dropout": lambda c: nn.Dropout(0.5),
    "dropout of maps": lambda c: nn.Dropout2d(0.5),
    "functional dropout": lambda c: Function(
        lambda layer, x: functional.dropout(x, 0.3, layer.training)
    ),
    "noise": lambda c: Function(lambda layer, x: x + 0.1 * torch.randn_like(x)),
    "shuffled mixing": lambda c: Function(
        lambda layer, x: 0.9 * x + 0.1 * x[torch.randperm(len(x))]
    ),
    "pooling": lambda c: nn.MaxPool2d(3, stride=1, padding=1),
    "average": lambda c: nn.AvgPool2d(3, stride=1, padding=1),
    "upsample": lambda c: nn.Sequential(nn.Upsample(scale_factor=2), nn.AvgPool2d(2)),
    "attention": lambda c: Rows(nn.MultiheadAttention(8 * c, 2, batch_first=True), 8 * c),
    "attention of the batch": lambda c: Rows(nn.MultiheadAttention(8 * c, 2), 8 * c),
    "transformer": lambda c: Rows(
        nn.TransformerEncoderLayer(8 * c, 2, 16, batch_first=True), 8 * c
    ),
    "lstm": lambda c: Rows(nn.LSTM(8 * c, 8 * c, batch_first=True), 8 * c),
    "gru of the batch": lambda c: Rows(nn.GRU(8 * c, 8 * c), 8 * c),
    "linear": lambda c: nn.Linear(8, 8),
    "einsum": lambda c: Function(lambda layer, x: torch.einsum("bchw,bchv->bcwv", x, x)),
    "einsum over images": lambda c: Function(
        lambda layer, x: torch.einsum("bchw,achw->bchw", x, x)
    ),
    "tied": Tied,
    "seldom": Seldom,
    "running mean": lambda c: Running(c, used=True),
    "statistics": lambda c: Running(c, used=False),
    "bfloat16": lambda c: Function(lambda layer, x: x.bfloat16().float()),
    "in place": lambda c: Function(lambda layer, x: x.add_(1) if x.requires_grad else x + 1),
    "infinite": lambda c: Function(lambda layer, x: x / 0),
    "lazy": lambda c: nn.LazyConv2d(c, 1),
    "frozen": lambda c: nn.Conv2d(c, c, 1).requires_grad_(False),
    "raises": lambda c: Function(lambda layer, x: layer.missing(x)),
    "raises in training": lambda c: Function(
        lambda layer, x: layer.missing(x) if layer.training else x
    ),
    "tuple": lambda c: Function(lambda layer, x: (x, x)),
    "numpy": lambda c: Function(lambda layer, x: torch.from_numpy(x.detach().numpy())),
}


USUAL = [
    *("transposed", "transposed groups", "group norm", "instance norm", "layer norm", "relu"),
    *("layer norm without bias", "rms norm", "local response", "relu in place", "prelu", "rrelu"),
    *("hardsigmoid", "dropout", "dropout of maps", "functional dropout", "noise", "pooling"),
    *("average", "upsample", "attention", "transformer", "lstm", "linear", "einsum", "tied"),
    *("seldom", "bfloat16", "lazy", "frozen"),
]
"""Layers that treat each image by itself; the others of ``LAYERS`` come once in four networks."""


@st.composite
def networks(draw):
    """A factory's network, which may be anything: the function that makes it, and its words."""
    channels, seed = draw(st.sampled_from([2, 4])), draw(st.integers(0, 2**16))
    first = draw(st.sampled_from(["conv", "pixels", "pixels of bounded norm"]))
    names = draw(st.lists(st.sampled_from(["conv", *USUAL]), min_size=1, max_size=4))
    if not draw(st.integers(0, 3)):
        names.insert(draw(st.integers(0, len(names))), draw(st.sampled_from([*LAYERS])))
    torch.manual_seed(seed)
    if first == "conv":
        layers = [nn.Conv2d(2, channels, 3, padding=1)]
    else:
        channels = 2
        layers = [Pixels(max_norm=0.1 if "bounded" in first else None)]
    for name in names:
        layer = draw(convolutions(channels)) if name == "conv" else LAYERS[name](channels)
        if draw(st.sampled_from([False, False, True])):
            layer = Residual(layer, inplace=draw(st.booleans()))
        layers.append(layer)
    outputs = draw(st.sampled_from([CLASSES] * 9 + [CLASSES + 1]))
    head = [nn.Flatten(), nn.Linear(64 * channels, outputs)]
    if draw(st.sampled_from([False] * 5 + [True])):
        head.insert(1, nn.LazyBatchNorm1d())
    body = nn.Sequential(*layers, *head)
    fold = draw(st.sampled_from(["none"] * 5 + ["flip", "crops", "scramble"]))
    made = body if fold == "none" else Folded(body, fold)
    how = draw(st.sampled_from(["plain"] * 8 + ["scripted", "traced"]))
    words = f"{first}, {', '.join(names)}, {fold}, {how}, {outputs} outputs"
    return made, how, words
