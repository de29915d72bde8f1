"""Training of a learned inverter on simulated clients."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from attacks.reconstruction.assignment import least_cost
from attacks.reconstruction.learned import Layers, LearnedInverter, Scaling, forward
from attacks.reconstruction.update_reader import UpdateReader

MOST = 8
"""Largest number of images behind an update; a training step tries 2^n sets of them."""

WIDTH = 512
"""Units of each of the two hidden layers. Twice as many took twice as long and gained 0.05 dB on
held-out images (as below, before features were read, 14 epochs)."""

BATCH = 128
"""Examples in a training step."""

RATE, DROP, DROPS = 1e-3, 0.2, 2
"""Learning rate of Adam, its factor once the held-out error stalls, and how often it falls."""

PATIENCE = 3
"""Epochs without a lower held-out error after which the learning rate falls, or training ends."""

HARDLY = 1e-3
"""Least standard deviation by which a value is divided: of the logarithm of a length, of the share
of a class, and of a bin relative to the largest of all bins."""

QUIET = 0.25
"""Factor of the bins where there are features of the last layer. On Fashion-MNIST, open gradients
of a convnet, 4,096 clients and 10 epochs, factors of 1, 0.25 and 0 gave 18.6, 18.9 and 18.9 dB."""

FARTHEST = 10.0
"""Largest distance of a value from its mean in standard deviations; what hardly varied in training
may be far off later."""


class Example(NamedTuple):
    """A simulated client.

    Attributes:
        read: float32 ``[values]``, its update as an ``UpdateReader`` reads it.
        images: uint8 ``[n, k, channels, height, width]``, the images behind it; for each of the n
            the k images of which finding any counts, such as those of a mixture.
    """

    read: Tensor
    images: Tensor


def train_inverter(
    examples: Iterable[Example],
    held_out: Iterable[Example],
    *,
    reader: UpdateReader,
    num_images: int,
    epochs: int,
    generator: torch.Generator,
    tell: Callable[[int], None] | None = None,
) -> LearnedInverter:
    """Train a network on simulated clients; it computes on the device of the examples.

    Three linear layers with ReLU between and a sigmoid at the end, by Adam on the mean squared
    error of the pixels, images matched to the best of the outputs. Training ends once the error on
    held-out clients stalls, and the network is that of the lowest one.

    Args:
        examples: Simulated clients to train on.
        held_out: Other clients, with other images, that tell when to stop.
        reader: What read their updates.
        num_images: Number of images to reconstruct. A Poisson batch may have others: outputs
            without an image count nothing, and images beyond the outputs are left out.
        epochs: Largest number of passes over the examples, at least 1.
        generator: CPU generator of weights and batches.
        tell: Function that is called with the number of epochs that are done.

    Raises:
        ValueError: If there is no example, or none is held out.
    """
    train, judge = _stacked(examples, num_images), _stacked(held_out, num_images)
    scaling = _scaling(train.read, reader.groups)
    inputs, judged = scaling(train.read), scaling(judge.read)
    layers = _initial_layers(inputs.shape[1], train, generator)
    best, lowest, costs = layers, math.inf, []
    parameters = [tensor.requires_grad_() for layer in layers for tensor in layer]
    optimiser = torch.optim.Adam(parameters, lr=RATE)
    stalled = drops = 0
    for epoch in range(1, epochs + 1):
        order = torch.randperm(len(inputs), generator=generator).to(inputs.device)
        for places in torch.split(order, BATCH):
            optimiser.zero_grad()
            loss = _error(forward(layers, inputs[places]), train.at(places))
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        with torch.no_grad():
            costs.append(_held_out_error(layers, judged, judge))
        if tell is not None:
            tell(epoch)
        stalled += 1
        if costs[-1] < lowest:
            best = [(weight.detach().clone(), bias.detach().clone()) for weight, bias in layers]
            lowest, stalled = costs[-1], 0
        if stalled < PATIENCE:
            continue
        if drops == DROPS:
            break
        drops, stalled = drops + 1, 0
        with torch.no_grad():
            for tensor, kept in zip(parameters, [t for each in best for t in each], strict=True):
                tensor.copy_(kept)
        for group in optimiser.param_groups:
            group["lr"] *= DROP
    channels, height, width = train.images.shape[-3:]
    return LearnedInverter(
        reader=reader,
        scaling=Scaling(*(tensor.cpu() for tensor in scaling)),
        layers=[(weight.detach().cpu(), bias.detach().cpu()) for weight, bias in best],
        shape=(channels, height, width),
        num_images=num_images,
        examples=len(inputs),
        costs=torch.tensor(costs),
    )


class _Examples(NamedTuple):
    """Examples in one tensor each; ``present`` is bool ``[m, n]``, false where no image is."""

    read: Tensor
    images: Tensor
    present: Tensor

    def at(self, places: Tensor) -> "_Examples":
        return _Examples(*(tensor[places] for tensor in self))


def _stacked(examples: Iterable[Example], num_images: int) -> _Examples:
    every = list(examples)
    if not every:
        raise ValueError("no simulated client sent an update, so the attack cannot be trained")
    most = max(example.images.shape[1] for example in every)
    images, present = [], []
    for example in every:
        some = example.images[:num_images]
        missing = num_images - len(some)
        some = torch.cat([some, some[:, :1].expand(-1, most - some.shape[1], -1, -1, -1)], 1)
        images.append(torch.cat([some, some[:1].expand(missing, -1, -1, -1, -1)]))
        present.append(torch.arange(num_images, device=some.device) < num_images - missing)
    read = torch.stack([example.read for example in every])
    return _Examples(read, torch.stack(images), torch.stack(present))


def _scaling(read: Tensor, groups: Sequence[int]) -> Scaling:
    """Standardise each value, and make all groups of values equally loud, but the bins.

    Ten classes would drown in thousands of bins, and so would features.
    """
    centre, spread = read.mean(0), read.std(0, correction=0)
    spreads, gains = [], []
    for place, own in enumerate(torch.split(spread, list(groups))):
        # Lengths and shares have a unit of their own, and the others are relative.
        unit = 1.0 if place == 0 or not len(own) else max(float(own.max()), 1e-9)
        spreads.append(own.clamp(min=HARDLY * unit))
        gains.append(torch.full_like(own, math.sqrt(max(groups) / max(len(own), 1))))
    gains[-1] *= QUIET if groups[1] else 1.0
    spread = torch.cat(spreads)
    return Scaling(centre, FARTHEST * spread, torch.cat(gains) / spread)


def _initial_layers(values: int, train: _Examples, generator: torch.Generator) -> Layers:
    """Random layers (He et al. 2015) that put out the mean image whatever they are given."""
    mean = train.images[:, :, 0].float().mean((0, 1)).flatten() / 255
    pixels = train.images.shape[1] * len(mean)
    layers = []
    for inputs, outputs in ((values, WIDTH), (WIDTH, WIDTH), (WIDTH, pixels)):
        weight = torch.randn(outputs, inputs, generator=generator) * math.sqrt(2 / inputs)
        layers.append((weight.to(mean.device), torch.zeros(outputs, device=mean.device)))
    weight, _ = layers[-1]
    layers[-1] = (0.1 * weight, torch.logit(mean, eps=0.01).repeat(train.images.shape[1]))
    return layers


def _error(outputs: Tensor, examples: _Examples) -> Tensor:
    """Mean squared error per pixel of the best assignment of images to outputs."""
    truth = examples.images.flatten(3).float() / 255  # [batch, n, k, pixels]
    count, pixels = truth.shape[1], truth.shape[-1]
    found = outputs.view(len(outputs), count, pixels)
    products = torch.einsum("bnkp,bmp->bnmk", truth, found)
    lengths = truth.square().sum(-1).unsqueeze(2) + found.square().sum(-1)[:, None, :, None]
    errors = ((lengths - 2 * products) / pixels).amin(3)  # [batch, n, m]
    errors = errors * examples.present.unsqueeze(2)
    return least_cost(errors).sum() / examples.present.sum()


def _held_out_error(layers: Layers, inputs: Tensor, examples: _Examples) -> float:
    total = 0.0
    for places in torch.split(torch.arange(len(inputs), device=inputs.device), BATCH):
        some = examples.at(places)
        error = _error(forward(layers, inputs[places]), some)
        total += float(error) * int(some.present.sum())
    return total / int(examples.present.sum())
