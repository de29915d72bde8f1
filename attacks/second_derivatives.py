"""Second derivatives of convolutions and GroupNorm without what nobody asks for.

An attack differentiates the gradient of the weights with respect to images. PyTorch's second
derivative of a convolution always computes that with respect to its weights as well, an eighth
product beside the seven that are needed, and the one of GroupNorm consists of some fifty small
operations.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Size = int | Sequence[int]

LEAST = 2**21
"""Multiplications of a convolution of stride 1 below which the eighth product takes no longer than
the calls from Python that avoid it."""

IMAGES = [True, False, False]
"""Choice of the derivative with respect to images among those to images, weight and bias."""


class FrozenWeights(TorchFunctionMode):
    """Within the block, and in this thread, layers whose weights are frozen differentiate faster.

    The results of convolutions have the bits of PyTorch, those of GroupNorm another rounding. The
    first backward pass has to be the one to the weights, and all later ones go to images only.

    Args:
        weights: Weights with respect to which nobody takes a second derivative.
        images: Input of the network.
    """

    def __init__(self, weights: Iterable[Tensor], images: Tensor) -> None:
        super().__init__()
        self._frozen = {id(weight) for weight in weights}
        self._images = images

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function of PyTorch, or ours for it."""
        kwargs = kwargs or {}
        if func is torch.conv2d:
            return self._conv2d(*args, **kwargs)
        if func is functional.group_norm:
            return self._group_norm(*args, **kwargs)
        return func(*args, **kwargs)

    def _conv2d(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
    ) -> Tensor:
        if (
            isinstance(padding, str)
            or input.ndim != 4
            or input is self._images  # nobody takes its first derivative, so there are only seven
            or weight.numel() * input[:, 0].numel() < LEAST
            or not self._all_frozen(weight, bias)
        ):
            return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
        shape = (_pair(stride), _pair(padding), _pair(dilation), groups)
        found: Tensor = _Convolution.apply(input, weight, bias, shape)
        return found

    def _group_norm(
        self,
        input: Tensor,
        num_groups: int,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float = 1e-5,
    ) -> Tensor:
        if weight is None or bias is None or not self._all_frozen(weight, bias):
            return functional.group_norm(input, num_groups, weight, bias, eps)
        found: Tensor = _GroupNorm.apply(input.contiguous(), weight, bias, num_groups, eps)
        return found

    def _all_frozen(self, *weights: Tensor | None) -> bool:
        return all(weight is None or id(weight) in self._frozen for weight in weights)


class _Convolution(torch.autograd.Function):
    """A convolution of images with weights that are frozen."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        images, weight, bias, shape = given
        ctx.save_for_backward(images, weight)
        ctx.shape, ctx.mask, ctx.first = shape, [True, True, bias is not None], True
        return torch.conv2d(images, weight, bias, *shape)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        if ctx.first:
            ctx.first = False
            return (*_ConvolutionSlopes.apply(slope, images, weight, ctx.shape, ctx.mask), None)
        return _slopes(slope, images, weight, ctx.shape, IMAGES)[0], None, None, None


class _ConvolutionSlopes(torch.autograd.Function):
    """Derivatives of a convolution with respect to images, weights and bias."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor | None, ...]:
        slope, images, weight, shape, mask = given
        ctx.save_for_backward(slope, images, weight)
        ctx.shape = shape
        ctx.set_materialize_grads(False)
        return _slopes(slope, images, weight, shape, mask)

    @staticmethod
    def backward(ctx: Any, *ways: Tensor | None) -> tuple[Tensor | None, ...]:
        slope, images, weight = ctx.saved_tensors
        along_images, along_weight, along_bias = ways
        of_slope: Tensor | None = None
        of_images: Tensor | None = None
        if along_images is not None:
            of_slope = torch.conv2d(along_images, weight, None, *ctx.shape)
        if along_weight is not None:
            part = torch.conv2d(images, along_weight, None, *ctx.shape)
            of_slope = part if of_slope is None else of_slope + part
            of_images = _slopes(slope, images, along_weight, ctx.shape, IMAGES)[0]
        if along_bias is not None:
            part = along_bias.view(1, -1, 1, 1).expand_as(slope)
            of_slope = part if of_slope is None else of_slope + part
        return of_slope, of_images, None, None, None


def _slopes(
    slope: Tensor, images: Tensor, weight: Tensor, shape: tuple[Any, ...], mask: list[bool]
) -> tuple[Tensor | None, ...]:
    """Derivatives of a convolution with respect to images, weights and bias where chosen."""
    stride, padding, dilation, groups = shape
    found: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward.default(
        slope,
        images,
        weight,
        [len(weight)],
        stride,
        padding,
        dilation,
        False,  # not transposed
        [0, 0],
        groups,
        mask,
    )
    return found


class _GroupNorm(torch.autograd.Function):
    """GroupNorm of images with weights that are frozen."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        images, weight, bias, groups, epsilon = given
        size, channels, *sides = images.shape
        found: tuple[Tensor, Tensor, Tensor] = torch.native_group_norm(
            images, weight, bias, size, channels, _product(sides), groups, epsilon
        )
        ctx.save_for_backward(images, weight, *found[1:])
        ctx.groups, ctx.first = groups, True
        return found[0]

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, mean, factor = ctx.saved_tensors
        given = (slope.contiguous(), images, weight, mean, factor, ctx.groups)
        if ctx.first:
            ctx.first = False
            return (*_GroupNormSlopes.apply(*given), None, None)
        return _norm_slopes(*given, IMAGES)[0], None, None, None, None


class _GroupNormSlopes(torch.autograd.Function):
    """Derivatives of GroupNorm with respect to images, weight and bias.

    With x the normalised images, r their factor, g the slope times the weight, and means E over a
    group, that of images is r (g - E g - x E gx). For ways u, a and b along the three results, the
    derivative of their dot product is written out below.
    """

    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor | None, ...]:
        slope, images, weight, mean, factor, groups = given
        ctx.save_for_backward(slope, images, weight, mean, factor)
        ctx.groups = groups
        return _norm_slopes(slope, images, weight, mean, factor, groups, [True] * 3)

    @staticmethod
    @once_differentiable  # the mean and the factor are constants here
    def backward(ctx: Any, *ways: Tensor) -> tuple[Tensor | None, ...]:
        slope, images, weight, mean, factor = ctx.saved_tensors
        size, channels, *sides = images.shape
        grouped = (size, ctx.groups, channels // ctx.groups, _product(sides))
        g, u, x = (each.reshape(grouped) for each in (slope, ways[0], images))
        w, a, b = (each.reshape(1, *grouped[1:3], 1) for each in (weight, *ways[1:]))
        m, r = (each.reshape(size, ctx.groups, 1, 1) for each in (mean, factor))
        x = (x - m) * r
        # Sums of each channel; the means of a group follow from them.
        g_sum, gx_sum, gu_sum = (one.sum(-1, keepdim=True) for one in (g, g * x, g * u))
        count = g.shape[2] * g.shape[3]

        def average(sums: Tensor) -> Tensor:
            return sums.sum(2, keepdim=True) / count

        u_mean, ux_mean = (u.mean((2, 3), keepdim=True), (u * x).mean((2, 3), keepdim=True))
        g_mean, gx_mean, gu_mean = (average(w * each) for each in (g_sum, gx_sum, gu_sum))
        of_slope = torch.addcmul(b - w * r * u_mean, x, a - w * r * ux_mean)
        of_slope = torch.addcmul(of_slope, u, w * r)
        along = r * (gu_mean - g_mean * u_mean - 3 * gx_mean * ux_mean) + average(a * gx_sum)
        rest = r * (ux_mean * g_mean + gx_mean * u_mean) - average(a * g_sum)
        of_images = torch.addcmul(r * rest, x, -r * along)
        of_images = torch.addcmul(of_images, g, r * (a - r * ux_mean * w))
        of_images = torch.addcmul(of_images, u, -r * r * gx_mean)
        return of_slope.view_as(slope), of_images.view_as(images), *(None,) * 4


def _norm_slopes(
    slope: Tensor,
    images: Tensor,
    weight: Tensor,
    mean: Tensor,
    factor: Tensor,
    groups: int,
    mask: list[bool],
) -> tuple[Tensor | None, ...]:
    """Derivatives of GroupNorm with respect to images, weight and bias where chosen."""
    size, channels, *sides = images.shape
    shape = (size, channels, _product(sides), groups)
    found: tuple[Tensor | None, ...] = torch.ops.aten.native_group_norm_backward.default(
        slope, images, mean, factor, weight, *shape, mask
    )
    return found


def _pair(size: Size) -> list[int]:
    return [size, size] if isinstance(size, int) else list(size) * (2 if len(size) == 1 else 1)


def _product(sides: Sequence[int]) -> int:
    return torch.Size(sides).numel()
