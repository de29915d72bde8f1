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

CHANGES = (0.0, 1.0, 2.0, -2.0)
"""Values of all pixels of the first image when it is changed, as far as normalised pixels reach;
the first two if the network has no finite outputs for negative values."""

REMEMBERS = "what it computes for an image depends on the images before it"

_aten = torch.ops.aten


class TrialFailed(Exception):
    """The trial went wrong; the message is the reason."""


def try_separation(model: nn.Module, shape: Shape) -> None:
    """Try whether a network treats each image of a batch by itself, and keeps nothing of it.

    A copy of the network, in its present mode but with Dropout off, is tried on three images: the
    outputs for an image in the batch must be those for the image alone, and when the first image is
    changed, the outputs for the others and all buffers must stay as they are.

    Args:
        model: Any network that takes such images, with at least one trained parameter.
        shape: Channels, height and width of an image.

    Raises:
        TrialFailed: If the images influence each other, or what comes after them.
        Exception: Whatever the network raises.
    """
    with _trial(model, shape) as trial:
        trial.compare_outputs()


def try_mode(model: nn.Module, shape: Shape, mode: Mode) -> None:
    """Try whether a mode gives the gradient of each image alone, as autograd does.

    Where the two differ in float32 they are compared in float64 as well: rounding that moves one
    ReLU across zero changes the gradient of a deep network by more than it may.

    Args:
        model: A network that passes ``try_separation``.
        shape: Channels, height and width of an image.
        mode: Method that computes per-example gradients.

    Raises:
        TrialFailed: If the mode gives other gradients.
        Exception: Whatever the network or Opacus raises.
    """
    try:
        with _trial(model, shape) as trial:
            trial.compare_gradients(mode)
    except TrialFailed:
        if not _agrees_in_float64(model, shape, mode):
            raise


def _agrees_in_float64(model: nn.Module, shape: Shape, mode: Mode) -> bool:
    """Whether the gradients of a mode are right in float64, which not every network computes in."""
    try:
        with _trial(copy.deepcopy(model).double(), shape, dtype=torch.float64) as trial:
            trial.compare_gradients(mode)
    except Exception:  # whatever the network or Opacus raises
        return False
    return True


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
        images: Float ``[3, channels, height, width]``. Their values are in [-1, 1), [0, 1) and
            [-1, 1), since layers that are dead for images of one kind hide what they do; all are in
            [0, 1) if the network has no finite outputs for negative values.
        changes: Values of all pixels of the first image when it is changed.
        labels: int64 ``[3]``.
        buffers: The buffers before any image, by name.
        parameters: The trained parameters by name.
    """

    original: nn.Module
    model: nn.Module
    images: Tensor
    changes: tuple[float, ...]
    labels: Tensor
    buffers: dict[str, Tensor]
    parameters: dict[str, Tensor]

    @classmethod
    def of(cls, model: nn.Module, images: Tensor) -> "_Trial":
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
        signed = images.clone()
        signed[::2] = 2 * images[::2] - 1
        takes_negative = _has_finite_outputs(trial, signed)
        return cls(
            model,
            trial,
            signed if takes_negative else images,
            CHANGES if takes_negative else CHANGES[:2],
            torch.arange(IMAGES, device=images.device) % outputs.shape[1],
            {name: buffer.clone() for name, buffer in trial.named_buffers()},
            {name: p for name, p in trial.named_parameters() if p.requires_grad},
        )

    def compare_outputs(self) -> None:
        """Compare batches with images alone, and with batches whose first image is another."""
        whole, buffers = self._outputs(self.images)
        if not whole.isfinite().all():
            raise TrialFailed("its outputs are not finite for images of random pixels")
        self._refuse_changed_parameters()
        self._outputs(self._changed(self.changes[-1]))
        if not _close(self._outputs(self.images)[0], whole):
            raise TrialFailed(REMEMBERS)
        for value in self.changes:
            outputs, others = self._outputs(self._changed(value))
            if not _close(outputs[1:], whole[1:]):
                raise TrialFailed(COUPLED)
            for name, buffer in buffers.items():
                if not _close(others[name], buffer):
                    raise TrialFailed(
                        f'its buffer "{name}" depends on the images, which no noise covers'
                    )
        alone = [self._alone(index) for index in range(IMAGES)]
        if not all(_close(one, whole[index], ALIKE) for index, (one, _) in enumerate(alone)):
            raise TrialFailed(COUPLED)
        if not all(map(_close, self._alone(1)[1], alone[1][1])):
            raise TrialFailed(REMEMBERS)
        self._refuse_changed_parameters()

    def compare_gradients(self, mode: Mode) -> None:
        """Compare the gradients of a mode with those of each image alone."""
        examples = PerExampleGradients(self.model, mode)
        try:
            whole = self._rows(examples, mode, self.images)
            others = self._rows(examples, mode, self._changed(CHANGES[0]))
        finally:
            examples.close()
        for index in range(IMAGES):
            _, alone = self._alone(index)
            least = SAME * float(torch.stack([gradient.norm() for gradient in alone]).norm())
            for (name, rows), one in zip(whole.items(), alone, strict=True):
                if rows.shape[0] != IMAGES:
                    raise TrialFailed(
                        f'the layer of "{name}" does not have the image as first dimension'
                    )
                wanted = one.norm() if mode == "ghost" else one
                if not _close(rows[index], wanted, ROUNDED, least=least):
                    raise TrialFailed(f'"{name}" does not get the gradient of each image by itself')
        if not all(_close(others[name][1:], rows[1:]) for name, rows in whole.items()):
            raise TrialFailed(COUPLED)

    def _changed(self, value: float) -> Tensor:
        """The images with another one in the place of the first."""
        images = self.images.clone()
        images[0] = value
        return images

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

    def _alone(self, index: int) -> tuple[Tensor, list[Tensor]]:
        """Outputs for an image by itself, and its gradient for each trained parameter."""
        self._start()
        one, trained = slice(index, index + 1), list(self.parameters.values())
        outputs = self.model(self.images[one])
        loss = functional.cross_entropy(outputs, self.labels[one])
        found = torch.autograd.grad(loss, trained, allow_unused=True)
        gradients = [
            torch.zeros_like(parameter) if gradient is None else gradient.to_dense()
            for parameter, gradient in zip(trained, found, strict=True)
        ]
        if not all(gradient.isfinite().all() for gradient in gradients):
            raise TrialFailed("its gradient is not finite for images of random pixels")
        return outputs.detach()[0], gradients

    def _rows(self, examples: PerExampleGradients, mode: Mode, images: Tensor) -> dict[str, Tensor]:
        """Per-example gradients of a batch, or their norms for ``ghost``, by parameter."""
        self._start()
        if mode != "ghost":
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
        *("rand", "rand_like", "randn", "randn_like", "uniform", "uniform_", "normal", "normal_"),
        *("exponential_", "log_normal_", "cauchy_"),
    )
)
"""Operations whose result is noise alone."""


def _random_images(model: nn.Module, shape: Shape, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(size, *shape, generator=generator).to(next(model.parameters()).device)


def _has_finite_outputs(model: nn.Module, images: Tensor) -> bool:
    """True if a network, in evaluation mode, neither fails nor gives infinity or NaN."""
    try:
        with evaluation(model), torch.no_grad():
            return bool(model(images).isfinite().all())
    except Exception:  # such as an embedding of pixels as indices
        return False


def _copy(model: nn.Module, images: Tensor) -> nn.Module:
    """Copy a network; weights that it computes, such as by weight_norm, must have no graph."""
    with evaluation(model):
        model(torch.zeros_like(images))
    return copy.deepcopy(model)


@contextmanager
def _trial(
    model: nn.Module, shape: Shape, *, dtype: torch.dtype = torch.float32
) -> Iterator[_Trial]:
    """A trial in which the network draws nothing at random; only the images are."""
    images = _random_images(model, shape, IMAGES).to(dtype)
    with _repeatable(), _WithoutChance():  # type: ignore[no-untyped-call]
        yield _Trial.of(model, images)


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
