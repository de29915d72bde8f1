"""PSNR after the best small shift, turn and zoom of the guess.

Convolutions contain little information about positions, so a reconstructed image may be right
except for its position. ``breaching`` reports such an R-PSNR; here it is found by least squares:
Lucas and Kanade, "An iterative image registration technique" (IJCAI 1981), damped as in Marquardt
(SIAM Journal on Applied Mathematics 11(2), 1963).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fedlab.metrics.images import comparable, psnr

# Twice the shift lets unrelated images gain twice as much: 2.5 instead of 1.2 dB at 32 pixels.
MAX_SHIFT = 0.125
"""Largest shift in either direction, as a share of height and width: 4 pixels of 32."""
MAX_TURN = math.radians(15)
"""Largest rotation in either direction, in radians."""
MAX_ZOOM = 1.15
"""Largest scale factor; the smallest is its inverse."""

# Rotations tried at the start; least squares finds its way from the nearest.
_TURNS = (0.0, math.radians(-8), math.radians(8))
# With 25 steps photographs of 32 pixels gain at most 0.1 dB; the first step is nearly undamped.
_STEPS = 15
_DAMPING = 1e-2


@dataclass(frozen=True)
class Registration:
    """Guesses registered to true images.

    The point x of the true image, in pixels from its centre, corresponds to the point
    ``zoom R(turn) x + shift`` of the guess.

    Attributes:
        images: float64 ``[n, channels, height, width]`` in [0, 1], the registered guesses; beyond
            the border of a guess its border pixels are repeated.
        defined: bool ``[n, 1, height, width]``, pixels that lie within the guess.
        turn: float64 ``[n]``, in radians; positive where the guess shows things turned clockwise.
        zoom: float64 ``[n]``, above 1 where the guess shows things larger.
        shift: float64 ``[n, 2]``, rows and columns, in pixels.
    """

    images: Tensor
    defined: Tensor
    turn: Tensor
    zoom: Tensor
    shift: Tensor


def registered_psnr(truth: Tensor, guess: Tensor) -> Tensor:
    """The better of PSNR and PSNR after registration, of each image.

    After registration only pixels within the guess count, at least two thirds of a square image at
    the bounds of this module.

    Registration improves any guess: unrelated 32 x 32 photographs by 1 to 2 dB, because four
    parameters are fitted, and noise by 1 dB, because subpixel shifts average it. Compare with the
    same score of a trivial guess, not with a plain PSNR.

    Args:
        truth: ``[n, channels, height, width]``, pixels in [0, 1].
        guess: The same shape; clamped to [0, 1].

    Returns:
        float64 ``[n]`` in dB, never below ``psnr``, at most ``PSNR_CAP``; NaN where the guess has
        NaN.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> image = torch.zeros(1, 1, 32, 32)
        >>> image[:, :, 10:20, 12:18] = 1
        >>> psnr(image, image.roll(3, 2)) < 15
        tensor([True])
        >>> registered_psnr(image, image.roll(3, 2)) > 50
        tensor([True])
    """
    plain = psnr(truth, guess)
    if not len(truth):
        return plain
    moved = register(truth, guess)
    error = _error(truth.double(), moved.images, moved.defined)
    # PSNR of one pixel with that error: the cap and the formula stay those of psnr.
    after = psnr(torch.zeros_like(error).view(-1, 1, 1, 1), error.sqrt().view(-1, 1, 1, 1))
    return torch.where(after > plain, after, plain)


def register(truth: Tensor, guess: Tensor) -> Registration:
    """Register each guess to its true image by translation, rotation and one scale.

    Damped least squares over the four parameters, on the pixels within the guess, starts from the
    best whole-pixel shift for each of three rotations. The result is deterministic, and up to
    rounding the same for a single image and in a batch.

    Args:
        truth: ``[n, channels, height, width]``, pixels in [0, 1], n at least 1.
        guess: The same shape; clamped to [0, 1].

    Raises:
        ValueError: If the shapes differ, or there is no image.
    """
    truth, guess = comparable(truth, guess)
    count, (height, width) = len(truth), truth.shape[2:]
    x, y = truth.float(), guess.float().nan_to_num()
    starts = [_best_shift(x, y, turn) for turn in _TURNS]
    motion, error = _descend(
        x.repeat(len(starts), 1, 1, 1), y.repeat(len(starts), 1, 1, 1), torch.cat(starts)
    )
    best = error.view(len(starts), count).argmin(0)
    chosen = motion.view(len(starts), count, 4)[best, torch.arange(count, device=best.device)]
    chosen = chosen.double()
    images, defined = _move(guess, chosen)
    half = torch.tensor([height / 2, width / 2], dtype=torch.float64, device=chosen.device)
    return Registration(
        images=images,
        defined=defined,
        turn=chosen[:, 0],
        zoom=chosen[:, 1].exp(),
        shift=chosen[:, 2:].flip(1) * half,
    )


def _descend(truth: Tensor, guess: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
    """Levenberg-Marquardt from a motion: a better motion ``[n, 4]`` and its error ``[n]``.

    A motion is the rotation in radians, the logarithm of the scale, and the shift in halves of
    the width and of the height, so that a unit of each moves pixels about as far.
    """
    damping = torch.full((len(motion), 1), _DAMPING, device=motion.device)
    moved, defined = _move(guess, motion)
    error = _error(truth, moved, defined)
    for _ in range(_STEPS):
        slopes = _slopes(moved, motion)  # [n, channels, height, width, 4]
        weighted = (slopes * defined.unsqueeze(-1)).flatten(1, 3)
        normal = weighted.transpose(1, 2) @ weighted
        toward = weighted.transpose(1, 2) @ (truth - moved).flatten(1).unsqueeze(2)
        diagonal = normal.diagonal(dim1=1, dim2=2)
        # An image without contrast has no slope: a tiny floor keeps the system solvable.
        floor = 1e-6 * diagonal.amax(1, keepdim=True) + 1e-12
        damped = normal + torch.diag_embed(damping * diagonal + floor)
        tried = _within_bounds(motion + torch.linalg.solve(damped, toward).squeeze(2))
        new_moved, new_defined = _move(guess, tried)
        new_error = _error(truth, new_moved, new_defined)
        better = (new_error < error).unsqueeze(1)
        motion = torch.where(better, tried, motion)
        error = torch.minimum(new_error, error)
        moved = torch.where(better[..., None, None], new_moved, moved)
        defined = torch.where(better[..., None, None], new_defined, defined)
        damping = torch.where(better, damping / 5, damping * 4).clamp(1e-6, 1e6)
    return motion, error


def _within_bounds(motion: Tensor) -> Tensor:
    bound = motion.new_tensor([MAX_TURN, math.log(MAX_ZOOM), 2 * MAX_SHIFT, 2 * MAX_SHIFT])
    return motion.clamp(-bound, bound)


def _slopes(moved: Tensor, motion: Tensor) -> Tensor:
    """How each pixel changes with the four parameters, to first order at this motion."""
    height, width = moved.shape[2:]
    rows, columns = (
        (2 * torch.arange(side, device=moved.device, dtype=moved.dtype) + 1) / side - 1
        for side in (height, width)
    )
    padded = functional.pad(moved, (1, 1, 1, 1), mode="replicate")
    # Per half width and half height, along the true image's axes.
    across = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) / 2 * (width / 2)
    down = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) / 2 * (height / 2)
    y, x = rows[:, None], columns
    turn = down * x * (width / height) - across * y * (height / width)
    zoom = across * x + down * y
    # A shift is along the guess's axes, which the motion has turned and scaled.
    turned, scale = motion[:, 0].view(-1, 1, 1, 1), motion[:, 1].exp().view(-1, 1, 1, 1)
    cosine, sine = turned.cos() / scale, turned.sin() / scale
    right = cosine * across - sine * down * (width / height)
    lower = sine * across * (height / width) + cosine * down
    return torch.stack([turn, zoom, right, lower], dim=-1)


def _move(guess: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
    """The guess as seen from the true image, and the pixels that lay within it."""
    height, width = guess.shape[2:]
    cosine, sine = motion[:, 0].cos(), motion[:, 0].sin()
    zoom = motion[:, 1].exp()
    # affine_grid counts in halves of the sides, so a turn must know their ratio.
    across = torch.stack([zoom * cosine, -zoom * sine * (height / width), motion[:, 2]], dim=1)
    down = torch.stack([zoom * sine * (width / height), zoom * cosine, motion[:, 3]], dim=1)
    shape = [len(guess), 1, height, width]
    grid = functional.affine_grid(torch.stack([across, down], dim=1), shape, align_corners=False)
    # Bicubic blurs a shift by half a pixel, and so flatters noise, far less than bilinear.
    moved = functional.grid_sample(
        guess, grid, mode="bicubic", padding_mode="border", align_corners=False
    )
    defined = (grid.abs() <= 1).all(3).unsqueeze(1)
    return moved.clamp(0, 1), defined


def _error(truth: Tensor, moved: Tensor, defined: Tensor) -> Tensor:
    """Mean squared error ``[n]`` on the defined pixels."""
    total = ((truth - moved).square().mean(1, keepdim=True) * defined).flatten(1).sum(1)
    mean: Tensor = total / defined.flatten(1).sum(1).clamp(min=1)
    return mean


def _best_shift(truth: Tensor, guess: Tensor, turn: float) -> Tensor:
    """Motions ``[n, 4]`` of a rotation and the whole-pixel shift that then leaves the least MSE.

    The sum of squares over the overlap of every shift, by correlations in Fourier space.
    """
    height, width = truth.shape[2:]
    motion = truth.new_zeros(len(truth), 4)
    motion[:, 0] = turn
    turned, defined = _move(guess, motion)
    inside = defined.to(truth.dtype)
    size = (2 * height, 2 * width)

    # At shift d: sum over channels and u of a(u) b(u + d).
    def correlate(a: Tensor, b: Tensor) -> Tensor:
        product = torch.fft.rfft2(a, s=size).conj() * torch.fft.rfft2(b, s=size)
        sums: Tensor = torch.fft.irfft2(product.sum(1), s=size)
        return sums

    whole = torch.ones_like(inside)
    overlap = correlate(whole, inside)
    squares = correlate(truth.square().sum(1, keepdim=True), inside) + correlate(
        whole, turned.square().sum(1, keepdim=True) * inside
    )
    error = (squares - 2 * correlate(truth, turned * inside)) / overlap.clamp(min=1)
    down, across = (int(MAX_SHIFT * side) for side in (height, width))
    rows = torch.arange(-down, down + 1, device=truth.device)
    columns = torch.arange(-across, across + 1, device=truth.device)
    near = error[:, rows % size[0]][:, :, columns % size[1]]
    place = near.flatten(1).argmin(1)
    row, column = rows[place // len(columns)], columns[place % len(columns)]
    # The shift acts on the turned guess, so it is turned along with it.
    across_pixels = math.cos(turn) * column - math.sin(turn) * row
    down_pixels = math.sin(turn) * column + math.cos(turn) * row
    motion[:, 2] = across_pixels * 2 / width
    motion[:, 3] = down_pixels * 2 / height
    return _within_bounds(motion)
