"""Learned inversion: a network that maps an update to images, trained on simulated clients.

Wu et al., "Learning to Invert" (UAI 2023, arXiv 2210.10880). Trained on the mean squared error, it
estimates the mean of all images that the update leaves possible, so it needs no model of the
defense but examples.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from attacks.reconstruction.assignment import best_order
from attacks.reconstruction.defended import adapted
from attacks.reconstruction.methods import RunOptions
from attacks.reconstruction.presets import AttackSettings
from attacks.reconstruction.problem import Problem
from attacks.reconstruction.result import Reconstruction
from attacks.reconstruction.update_reader import UpdateReader
from attacks.reconstruction.watch import Progress

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
            return forward(layers, self.scaling(read)).view(-1, self.num_images, *self.shape)


def forward(layers: Layers, inputs: Tensor) -> Tensor:
    """Outputs of the network, pixels in [0, 1], ``[batch, n * pixels]``.

    Args:
        layers: Weight and bias of each linear layer.
        inputs: float ``[batch, values]``.
    """
    hidden = inputs
    for weight, bias in layers[:-1]:
        hidden = functional.relu(functional.linear(hidden, weight, bias))
    return functional.linear(hidden, *layers[-1]).sigmoid()


def untrained(problem: Problem, settings: AttackSettings, options: RunOptions) -> Reconstruction:
    """Refuse to attack, because nothing was trained for the update.

    Raises:
        ValueError: Always.
    """
    raise ValueError(
        "nothing was trained for this update: the method learned needs the preset learned, and "
        "public images for simulated clients"
    )


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
