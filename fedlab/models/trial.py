"""A trial of DP-SGD on a network: per-example gradients are compared with those of one image alone.

What counts is numbers and not the kinds of layers, since a layer that treats each image by itself
can be used in a way that does not, and the other way round.
"""

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from fedlab.core.modes import evaluation
from fedlab.models.per_example import Mode, PerExampleGradients, ignoring_full_backward_hooks
from fedlab.models.registry import Shape

IMAGES = 3
"""Number of images in the trial: two beside the one that is changed, so that order matters."""

SAME = 1e-5
"""Largest relative difference of results that differ by rounding only in batches of one size."""

ROUNDED = 1e-3
"""Largest relative difference of a gradient in a batch from that of the image alone, in float32."""

ALIKE = 0.05
"""Largest relative difference of the outputs for an image in a batch and alone. Networks that
compute in bfloat16 reach 0.01."""

COUPLED = (
    "the images of a batch influence each other in it, so the influence of one cannot be bounded: "
    "let it treat each image by itself, for example with GroupNorm instead of statistics of the "
    "batch"
)

CHANGES = (0.0, 1.0)
"""Values of all pixels of the first image when it is changed."""

REMEMBERS = "what it computes for an image depends on the images before it"

_aten = torch.ops.aten


class TrialFailed(Exception):
    """The trial went wrong; the message is the reason."""


def try_private_training(model: nn.Module, shape: Shape, mode: Mode) -> None:
    """Try whether the per-example gradients of a network are those of each image alone.

    A copy of the network, in its present mode but with Dropout off, is tried on three images: the
    gradient of each image in the batch must be that of the image alone, and when the first image
    is changed, the gradients of the others and all buffers must stay as they are.

    Args:
        model: Any network that takes such images, with at least one trained parameter.
        shape: Channels, height and width of an image.
        mode: Method that computes per-example gradients.

    Raises:
        TrialFailed: If the images influence each other, or the mode gives other gradients.
        Exception: Whatever the network raises.
    """
    with _repeatable(), _WithoutChance():  # type: ignore[no-untyped-call]
        _Trial.of(model, shape, mode).run()


def try_step(model: nn.Module, shape: Shape, size: int) -> None:
    """Let a copy of a network compute the gradient of some images of random pixels.

    Args:
        model: Any network that takes such images.
        shape: Channels, height and width of an image.
        size: Number of images in the batch, at least 1.

    Raises:
        Exception: Whatever the network raises.
    """
    with _repeatable():
        torch.manual_seed(0)
        images = _random_images(model, shape, size)
        trial = _copy(model, images)
        functional.cross_entropy(
            trial(images), torch.zeros(size, dtype=torch.int64, device=images.device)
        ).backward()  # type: ignore[no-untyped-call]


@dataclass
class _Trial:
    """A copy of a network, and images to try it on.

    Attributes:
        original: The network.
        model: Its copy, which sees the images.
        mode: Method that computes per-example gradients.
        images: float32 ``[3, channels, height, width]`` with values in [0, 1), which the pixels of
            every data set reach after its normalisation.
        labels: int64 ``[3]``.
        buffers: The buffers before any image, by name.
        parameters: The trained parameters by name.
    """

    original: nn.Module
    model: nn.Module
    mode: Mode
    images: Tensor
    labels: Tensor
    buffers: dict[str, Tensor]
    parameters: dict[str, Tensor]

    @classmethod
    def of(cls, model: nn.Module, shape: Shape, mode: Mode) -> "_Trial":
        images = _random_images(model, shape, IMAGES)
        trial = _copy(model, images)
        with evaluation(trial):
            outputs = trial(torch.zeros_like(images))
        if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != IMAGES:
            raise TrialFailed("it does not give one row of outputs for each image")
        for layer in trial.modules():
            if isinstance(layer, nn.RReLU):
                layer.eval()
            if isinstance(getattr(layer, "dropout", None), float):
                layer.dropout = 0.0  # type: ignore[assignment]
        return cls(
            model,
            trial,
            mode,
            images,
            torch.arange(IMAGES, device=images.device) % outputs.shape[1],
            {name: buffer.clone() for name, buffer in trial.named_buffers()},
            {name: p for name, p in trial.named_parameters() if p.requires_grad},
        )

    def run(self) -> None:
        """Compare batches with images alone.

        Raises:
            TrialFailed: If images influence each other, or the mode gives other gradients than
                autograd for an image alone.
        """
        changed = [self.images.clone() for _ in CHANGES]
        for images, value in zip(changed, CHANGES, strict=True):
            images[0] = value
        self._compare_outputs(changed)
        alone = [self._alone(index) for index in range(IMAGES)]
        if self.mode != "loop":
            self._compare_gradients(alone, changed)
        if not all(map(_close, self._alone(1), alone[1])):
            raise TrialFailed(REMEMBERS)
        self._refuse_changed_parameters()

    def _compare_outputs(self, changed: list[Tensor]) -> None:
        whole, buffers = self._outputs(self.images)
        if not whole.isfinite().all():
            raise TrialFailed("its outputs are not finite for images of random pixels")
        self._refuse_changed_parameters()
        if not _close(self._outputs(self.images)[0], whole):
            raise TrialFailed(REMEMBERS)
        for images in changed:
            outputs, others = self._outputs(images)
            if not _close(outputs[1:], whole[1:]):
                raise TrialFailed(COUPLED)
            for name, buffer in buffers.items():
                if not _close(others[name], buffer):
                    raise TrialFailed(
                        f'its buffer "{name}" depends on the images, which no noise covers'
                    )
        for index in range(IMAGES):
            one, _ = self._outputs(self.images[index : index + 1])
            if not _close(one[0], whole[index], ALIKE):
                raise TrialFailed(COUPLED)

    def _refuse_changed_parameters(self) -> None:
        before, after = self.original.parameters(), self.model.parameters()
        if not all(torch.equal(one, other) for one, other in zip(before, after, strict=True)):
            raise TrialFailed("it changes its own parameters while it classifies images")

    def _outputs(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Outputs for images, and the buffers after them."""
        self._start()
        outputs = self.model(images)
        if not isinstance(outputs, Tensor) or len(outputs) != len(images):
            raise TrialFailed("in training it does not give one row of outputs for each image")
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        return outputs.detach(), buffers

    def _alone(self, index: int) -> list[Tensor]:
        """Gradient of an image by itself, for each trained parameter."""
        self._start()
        one = slice(index, index + 1)
        loss = functional.cross_entropy(self.model(self.images[one]), self.labels[one])
        trained = list(self.parameters.values())
        found = torch.autograd.grad(loss, trained, allow_unused=True)
        gradients = [
            torch.zeros_like(parameter) if gradient is None else gradient.to_dense()
            for parameter, gradient in zip(trained, found, strict=True)
        ]
        if not all(gradient.isfinite().all() for gradient in gradients):
            raise TrialFailed("its gradient is not finite for images of random pixels")
        return gradients

    def _compare_gradients(self, alone: list[list[Tensor]], changed: list[Tensor]) -> None:
        examples = PerExampleGradients(self.model, self.mode)
        try:
            whole = self._rows(examples, self.images)
            others = [self._rows(examples, images) for images in changed]
        finally:
            examples.close()
        norms = [float(torch.cat([g.flatten() for g in each]).norm()) for each in alone]
        for place, (name, rows) in enumerate(whole.items()):
            wanted = torch.stack([gradients[place] for gradients in alone])
            if self.mode == "ghost":
                wanted = wanted.flatten(1).norm(dim=1)
            if rows.shape != wanted.shape:
                raise TrialFailed(
                    f'the layer of "{name}" does not have the image as first dimension'
                )
            for row, one, norm in zip(rows, wanted, norms, strict=True):
                if not _close(row, one, ROUNDED, least=SAME * norm):
                    raise TrialFailed(f'"{name}" does not get the gradient of each image by itself')
            if not all(_close(other[name][1:], rows[1:]) for other in others):
                raise TrialFailed(COUPLED)

    def _rows(self, examples: PerExampleGradients, images: Tensor) -> dict[str, Tensor]:
        """Per-example gradients of a batch, or their norms for ``ghost``, by parameter."""
        self._start()
        if self.mode != "ghost":
            examples.compute(images, self.labels)
            rows = [parameter.grad_sample for parameter in examples.trained]  # type: ignore[attr-defined]
        else:
            with ignoring_full_backward_hooks():
                examples.losses(images, self.labels).sum().backward()  # type: ignore[no-untyped-call]
            rows = [parameter._norm_sample for parameter in examples.trained]  # type: ignore[attr-defined]
        for parameter in examples.trained:
            parameter.grad = parameter.grad_sample = None  # type: ignore[attr-defined]
        return dict(zip(self.parameters, rows, strict=True))

    def _start(self) -> None:
        """Bring buffers and random generators to where they were before any image."""
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        with torch.no_grad():
            for name, buffer in self.model.named_buffers():
                buffer.copy_(self.buffers[name])


class _WithoutChance(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Replaces random draws by constants, so that masks do not depend on the size of a batch."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return found
        packet = func.overloadpacket
        if packet is _aten.native_dropout:
            return args[0] / (1 - args[1]), torch.ones_like(found[1])
        if not isinstance(found, Tensor) or not found.numel():
            return found
        if packet in (_aten.bernoulli, _aten.bernoulli_):
            return found.fill_(1)
        if packet is _aten.randperm:
            return found.copy_(found.sort().values.roll(1))  # never leaves images in their order
        if found.is_floating_point():
            return found.fill_(0.5) if packet in DRAWS else found
        return found.fill_(found.flatten()[0])


DRAWS = frozenset(
    getattr(_aten, name)
    for name in (
        "rand",
        "rand_like",
        "randn",
        "randn_like",
        "uniform",
        "uniform_",
        "normal",
        "normal_",
        "exponential_",
        "log_normal_",
        "cauchy_",
    )
)
"""Operations whose result is noise alone."""


def _random_images(model: nn.Module, shape: Shape, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(size, *shape, generator=generator).to(next(model.parameters()).device)


def _copy(model: nn.Module, images: Tensor) -> nn.Module:
    """Copy a network; weights that it computes, such as by weight_norm, must have no graph."""
    with evaluation(model):
        model(torch.zeros_like(images))
    return copy.deepcopy(model)


@contextmanager
def _repeatable() -> Iterator[None]:
    """Restore the global random generators, which a network may use, after the block."""
    python, of_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(of_numpy)


def _close(one: Tensor, other: Tensor, tolerance: float = SAME, *, least: float = 0.0) -> bool:
    """True if two tensors differ by a small part of their norm."""
    if one.shape != other.shape:
        return False
    if not other.is_floating_point():
        return torch.equal(one, other)
    return bool((one - other).norm() <= tolerance * other.norm() + least)
