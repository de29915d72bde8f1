"""Small networks and handwritten digits for crafting poisons and training victims."""

from functools import cache

import torch
from sklearn import datasets
from torch import nn
from torch.nn import functional

from attacks.poisoning.surrogate import Surrogate


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def as_input(pixels):
    return pixels * 2 - 1


def network(seed=0, classes=10, width=8, norm=False):
    """Of 8 x 8 grey images."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.BatchNorm2d(width) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * width, classes),
        )


def surrogate(model):
    model.eval()
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    return Surrogate(model, parameters, dict(model.named_buffers()), as_input)


def noise(count, seed=0, channels=1):
    return torch.randint(0, 256, (count, channels, 8, 8), generator=seeded(seed), dtype=torch.uint8)


@cache
def digits():
    """Images uint8 ``[1797, 1, 8, 8]`` and labels, in a drawn order."""
    bunch = datasets.load_digits()
    order = torch.randperm(len(bunch.target), generator=seeded())
    grey = (torch.from_numpy(bunch.images) * (255 / 16)).round().to(torch.uint8)
    return grey.unsqueeze(1)[order], torch.from_numpy(bunch.target).long()[order]


def trained(images, labels, *, seed, epochs=10, lr=0.1, batch=32):
    """A network after SGD with momentum from weights of its own."""
    model = network(seed)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    pixels, generator = as_input(images.float() / 255), seeded(seed)
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - epoch / epochs)
        for members in torch.randperm(len(labels), generator=generator).split(batch):
            optimizer.zero_grad()
            functional.cross_entropy(model(pixels[members]), labels[members]).backward()
            optimizer.step()
    return model.eval()


@cache
def learned(seed=0):
    """The weights of a small network that knows 300 digits; for a fresh ``network`` each time."""
    images, labels = digits()
    return trained(images[:300], labels[:300], seed=seed, epochs=6).state_dict()


def clever(seed=0):
    model = network(seed)
    model.load_state_dict(learned(seed))
    return model


def logits(model, images):
    with torch.no_grad():
        return model(as_input(images.float() / 255))


def accuracy(model, images, labels):
    return float((logits(model, images).argmax(1) == labels).double().mean())
