"""Learned inversion: a network that maps an update to images, trained on simulated clients.

Wu et al., "Learning to Invert" (UAI 2023, arXiv 2210.10880). Trained on the mean squared error, it
estimates the mean of all images that the update leaves possible, so it needs no model of the
defense but examples.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from attacks.reconstruction.assignment import best_order, least_cost
from attacks.reconstruction.defended import adapted
from attacks.reconstruction.methods import RunOptions
from attacks.reconstruction.presets import AttackSettings
from attacks.reconstruction.problem import Problem
from attacks.reconstruction.result import Reconstruction
from attacks.reconstruction.update_reader import UpdateReader
from attacks.reconstruction.watch import Progress

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

Layers = list[tuple[Tensor, Tensor]]


class Scaling(NamedTuple):
    """What is done to the values of an update before the network reads them.

    Attributes:
        centre: float32 ``[values]``, what is subtracted.
        reach: float32 ``[values]``, largest size after that.
        factor: float32 ``[values]``, factors after that.
    """

    centre: Tensor
    reach: Tensor
    factor: Tensor

    def __call__(self, read: Tensor) -> Tensor:
        """The inputs of the network, ``[batch, values]``."""
        centre, reach, factor = (tensor.to(read) for tensor in self)
        return (read - centre).clamp(-reach, reach) * factor


class Example(NamedTuple):
    """A simulated client.

    Attributes:
        read: float32 ``[values]``, its update as an ``UpdateReader`` reads it.
        images: uint8 ``[n, k, channels, height, width]``, the images behind it; for each of the n
            the k images of which finding any counts, such as those of a mixture.
    """

    read: Tensor
    images: Tensor


@dataclass(frozen=True)
class LearnedInverter:
    """A trained network, which is a reconstruction method for one kind of update.

    Attributes:
        reader: Turns an update into the input of the network.
        scaling: What is done to what was read.
        layers: Weight and bias of each linear layer.
        shape: Channels, height and width of an image.
        num_images: Number n of images behind an update.
        examples: Number of simulated clients that it was trained on.
        costs: float32 ``[epochs]``, mean squared error on held-out clients after each epoch.
    """

    reader: UpdateReader
    scaling: Scaling = field(repr=False)
    layers: Layers = field(repr=False)
    shape: tuple[int, int, int]
    num_images: int
    examples: int
    costs: Tensor = field(repr=False)

    @property
    def key(self) -> str:
        """The method in a few words."""
        return f"learned from {self.examples:,} simulated clients in {len(self.costs)} epochs"

    def __call__(
        self, problem: Problem, settings: AttackSettings, options: RunOptions
    ) -> Reconstruction:
        """Reconstruct the images behind an update.

        Raises:
            ValueError: If the update is not of the kind that the network was trained on.
        """
        known, count = problem.knowledge, problem.payload.num_examples
        if (count, known.image_shape) != (self.num_images, self.shape):
            raise ValueError(
                f"the attack was trained on {self.num_images} images of {self.shape}, but there "
                f"are {count} of {known.image_shape}"
            )
        images = self.images(self.reader(problem.target, known.labels).unsqueeze(0))[0]
        labels = known.labels
        if labels is None:
            rule = adapted(settings, problem.payload, known).label_rule
            labels = problem.infer_labels(rule, options.generator)
        if options.watch is not None:
            options.watch(Progress(0, 1, math.nan, images))
        images, labels = _paired(problem, images, labels)
        return Reconstruction(images=images, labels=labels)

    def images(self, read: Tensor) -> Tensor:
        """Images for updates that were read, ``[batch, n, channels, height, width]`` in [0, 1]."""
        with torch.no_grad():
            layers = [(weight.to(read), bias.to(read)) for weight, bias in self.layers]
            return _forward(layers, self.scaling(read)).view(-1, self.num_images, *self.shape)


def untrained(problem: Problem, settings: AttackSettings, options: RunOptions) -> Reconstruction:
    """Refuse to attack, because nothing was trained for the update.

    Raises:
        ValueError: Always.
    """
    raise ValueError(
        "nothing was trained for this update: the method learned needs the preset learned, and "
        "public images for simulated clients"
    )


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
        for places in order.split(BATCH):
            optimiser.zero_grad()
            loss = _error(_forward(layers, inputs[places]), train.at(places))
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
    return LearnedInverter(
        reader=reader,
        scaling=Scaling(*(tensor.cpu() for tensor in scaling)),
        layers=[(weight.detach().cpu(), bias.detach().cpu()) for weight, bias in best],
        shape=tuple(train.images.shape[-3:]),
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
    read, images, present = [], [], []
    for example in examples:
        some = example.images[:num_images]
        missing = num_images - len(some)
        read.append(example.read)
        images.append(torch.cat([some, some[:1].expand(missing, *some.shape[1:])]))
        present.append(torch.arange(num_images, device=some.device) < len(some))
    if not read:
        raise ValueError("no simulated client sent an update, so the attack cannot be trained")
    return _Examples(torch.stack(read), torch.stack(images), torch.stack(present))


def _scaling(read: Tensor, groups: Sequence[int]) -> Scaling:
    """Standardise each value, and make all groups of values equally loud, but the bins.

    Ten classes would drown in thousands of bins, and so would features.
    """
    centre, spread = read.mean(0), read.std(0, correction=0)
    spreads, gains = [], []
    for place, own in enumerate(spread.split(list(groups))):
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


def _forward(layers: Layers, inputs: Tensor) -> Tensor:
    """Pixels in [0, 1], ``[batch, n * pixels]``."""
    hidden = inputs
    for weight, bias in layers[:-1]:
        hidden = functional.relu(functional.linear(hidden, weight, bias))
    return functional.linear(hidden, *layers[-1]).sigmoid()


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
    for places in torch.arange(len(inputs), device=inputs.device).split(BATCH):
        some = examples.at(places)
        error = _error(_forward(layers, inputs[places]), some)
        total += float(error) * int(some.present.sum())
    return total / int(examples.present.sum())


def _paired(problem: Problem, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Images and labels that belong together, in the order of the labels.

    The outputs of the network have no order. Of all pairings it is the one that the attacked
    network finds most probable; where a Poisson batch has other numbers of both, some are left out.
    """
    if len(images) == len(labels) == 1:
        return images, labels
    state = {**problem.parameters, **{n: b.clone() for n, b in problem.buffers.items()}}
    with torch.no_grad():
        outputs = functional_call(problem.model, state, (problem.normalise(images),))
    soft = labels
    if not labels.is_floating_point():
        soft = functional.one_hot(labels, outputs.shape[1])
    cost = -soft.to(outputs) @ outputs.log_softmax(1).T  # [labels, images]
    if len(labels) <= len(images):
        return images[best_order(cost)], labels
    return images, labels[best_order(cost.T)]
