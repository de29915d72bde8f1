"""Victims of the reconstruction benchmarks: networks, real images, and their updates."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.io import ImageReadMode, read_image
from torchvision.transforms.functional import center_crop

from attacks.gradients import batch_gradient, unroll
from attacks.knowledge import Knowledge, LocalSGD
from attacks.payload import Payload
from fedlab.data.images import ImageData
from fedlab.models import build, torchvision_models

TRAINING_EPOCHS = 6
PHOTOGRAPHED = 256
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of each channel, with which networks for ImageNet normalise."""

CLASSES = 10


@dataclass(frozen=True)
class Victim:
    """A network in evaluation mode, as in all public code, and one update of a client.

    Attributes:
        model: Network at the global weights.
        pixels: True images, float32 ``[n, channels, height, width]`` in [0, 1].
        labels: Labels, int64 ``[n]``, which every attacker knows.
        payload: Payload that the client sent.
        knowledge: Knowledge of every attacker.
    """

    model: nn.Module = field(repr=False)
    pixels: Tensor = field(repr=False)
    labels: Tensor
    payload: Payload
    knowledge: Knowledge

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next(self.model.parameters()).device

    @property
    def state(self) -> dict[str, Tensor]:
        """The global parameters and buffers."""
        return {name: value.detach() for name, value in self.model.state_dict().items()}


def victim(
    model: nn.Module, data: ImageData, places: list[int], *, local: LocalSGD | None = None
) -> Victim:
    """A victim: the update that some test images cause.

    Args:
        model: Network in evaluation mode.
        data: Data set whose test images are attacked.
        places: Indices of the test images, one batch.
        local: Local training after which weights are sent; a gradient is sent if ``None``.
    """
    pixels, labels = data.pixels(data.test_images[places]), data.test_labels[places]
    device = next(model.parameters()).device
    inputs, targets = data.normalise(pixels).to(device), labels.to(device)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    buffers = dict(model.named_buffers())
    if local is None:
        tensors = batch_gradient(model, parameters, buffers, inputs, targets)
        payload = Payload("gradient", tensors, num_examples=len(places), steps=1)
    else:
        after = unroll(model, parameters, buffers, inputs, targets, local=local)
        tensors = {name: tensor.detach() for name, tensor in after.items()}
        steps = len(local.blocks(len(places)))
        payload = Payload("weights", tensors, num_examples=len(places), steps=steps)
    knowledge = Knowledge(
        image_shape=data.shape,
        num_classes=data.num_classes,
        mean=data.mean,
        std=data.std,
        num_images=len(places),
        labels=labels,
        local=local,
        training_mode=False,
    )
    return Victim(model, pixels, labels, payload, knowledge)


def untrained(name: str, data: ImageData, *, width: int | None = None) -> nn.Module:
    """A network with BatchNorm at its initial weights, in evaluation mode."""
    model = build(name, shape=data.shape, classes=CLASSES, width=width, norm="batch", seed=0)
    return model.eval()


def trained(
    data: ImageData, model: nn.Module | None = None, *, epochs: int = TRAINING_EPOCHS
) -> tuple[nn.Module, float]:
    """A network after some epochs on the training images, and its accuracy on the test images.

    Args:
        data: Data set on the network's device.
        model: Network at its initial weights; a ``convnet`` of width 32 unless given.
        epochs: Number of passes over the training images, at least 1.
    """
    if model is None:
        model = build("convnet", shape=data.shape, classes=data.num_classes, width=32, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(0)
    batches = -(-len(data.train_labels) // 128)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.05, total_steps=epochs * batches
    )
    for _ in range(epochs):
        order = torch.randperm(len(data.train_labels), generator=generator)
        for batch in torch.split(order, 128):
            inputs = data.normalise(data.pixels(data.train_images[batch]))
            optimizer.zero_grad()
            functional.cross_entropy(model(inputs), data.train_labels[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        output = torch.cat(
            [model(data.normalise(data.pixels(some))) for some in data.test_images.split(500)]
        )
    return model, float((output.argmax(1) == data.test_labels).float().mean())


def large(data: ImageData) -> nn.Module:
    """Torchvision's ResNet-18 for images of some hundred pixels, at its initial weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torchvision_models.build("resnet18", shape=data.shape, classes=data.num_classes)
        return network.eval()


def photograph(file: Path) -> ImageData:
    """The middle 256 pixels of a picture, as the only image of a set; of class 0 out of 1,000."""
    picture = read_image(str(file), ImageReadMode.RGB)
    image = center_crop(picture, [PHOTOGRAPHED, PHOTOGRAPHED]).unsqueeze(0)
    return ImageData(
        name=file.name,
        train_images=image,
        train_labels=torch.zeros(1, dtype=torch.int64),
        test_images=image,
        test_labels=torch.zeros(1, dtype=torch.int64),
        classes=tuple(map(str, range(1_000))),
        mean=IMAGENET[0],
        std=IMAGENET[1],
    )
