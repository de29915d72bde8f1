"""The handwritten digits, and a small network that learns them in a second."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional


def split():
    """Training images and labels, then those of the test; uint8 ``[n, 1, 8, 8]``."""
    found = load_digits()
    images = (torch.tensor(found.images) * 255 / 16).round().to(torch.uint8).unsqueeze(1)
    labels = torch.tensor(found.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test = order[:1200], order[1200:]
    return images[train], labels[train], images[test], labels[test]


def trained(images, labels, *, steps=200, seed=0):
    """A network that takes pixels in [0, 1], in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    batches = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(labels), (128,), generator=batches)
        optimizer.zero_grad()
        functional.cross_entropy(model(images[chosen] / 255), labels[chosen]).backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def accuracy(model, pixels, labels):
    with torch.no_grad():
        return float((model(pixels).argmax(1) == labels).float().mean())
