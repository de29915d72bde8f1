"""PSNR after the best flip, small shift and small change of brightness and contrast.

A mirrored or slightly moved copy of an image shows as much as the image itself. Alignment raises
the PSNR of every guess, so guesses are comparable only if all are aligned alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fedlab.metrics.images import PSNR_CAP
from fedlab.metrics.registration import MAX_SHIFT

CONTRAST = (0.8, 1.25)
"""Smallest and largest factor of contrast."""
BRIGHTNESS = 0.1
"""Largest change of the mean of all pixels, which lie in [0, 1]."""

_STEPS = 4  # Shifts of up to 4 pixels are all tried, larger ones in quarters of the largest.
# Flat images have no contrast; the floor keeps their factor defined.
_FLOOR = 1e-12


@dataclass(frozen=True)
class Aligned:
    """One image aligned with each of m others.

    Attributes:
        psnr: float64 ``[m]`` in dB, of the pixels on which both images are defined.
        images: float64 ``[m, channels, height, width]``, the image as it is mirrored and shifted
            for each other; black where it is not defined.
        mirrored: bool ``[m]``.
    """

    psnr: Tensor
    images: Tensor
    mirrored: Tensor


def moves(height: int, width: int, share: float = MAX_SHIFT) -> list[tuple[bool, int, int]]:
    """Flips and shifts that are tried, in rows and columns; the first leaves an image as it is.

    Args:
        height: Number of rows.
        width: Number of columns.
        share: Largest shift as a share of height and width.

    Example:
        >>> len(moves(32, 32)), moves(8, 8)[0]
        (162, (False, 0, 0))
    """
    rows, columns = (_offsets(int(share * side)) for side in (height, width))
    found = [(flip, row, col) for flip in (False, True) for row in rows for col in columns]
    return sorted(found, key=lambda move: (move[0], abs(move[1]) + abs(move[2])))


def shifted(images: Tensor, moves: Sequence[tuple[bool, int, int]]) -> Tensor:
    """Mirror and then shift images ``[..., height, width]``; what comes in from outside is 0.

    Returns:
        ``[moves, ..., height, width]``.
    """
    height, width = images.shape[-2:]
    far = [max(abs(move[axis]) for move in moves) for axis in (1, 2)]
    framed = functional.pad(images, (far[1], far[1], far[0], far[0]))
    sides = framed, framed.flip(-1)
    return torch.stack(
        [
            sides[flip].narrow(-2, far[0] - rows, height).narrow(-1, far[1] - columns, width)
            for flip, rows, columns in moves
        ]
    )


def align(
    one: Tensor, many: Tensor, *, visible: Tensor | None = None, adjust_many: bool = False
) -> Aligned:
    """Align one image with each of several, by the flip and shift that leave the least error.

    For each flip and shift, contrast and brightness are fitted by least squares within their
    bounds. With means m, variances v and the covariance s of the pixels that overlap, where y is
    the image that is adjusted, the squared error is::

        v_x - 2 a s + a^2 v_y + (m_x - m_y - b)^2
        a = s / v_y within CONTRAST,  b = m_x - m_y within BRIGHTNESS

    Args:
        one: ``[channels, height, width]``, pixels in [0, 1]; this image is moved.
        many: ``[m, channels, height, width]``, pixels in [0, 1].
        visible: bool ``[height, width]``, pixels of the others that count; all by default. It
            belongs to ``one`` instead if ``adjust_many`` is true.
        adjust_many: True to fit the contrast and brightness of the others, which are guesses at
            ``one``; by default ``one`` is the guess.
    """
    one, many = one.double().clamp(0, 1), many.double().clamp(0, 1)
    channels, height, width = one.shape
    tried = moves(height, width)
    frame = torch.ones(height, width, dtype=torch.float64, device=one.device)
    mask = frame if visible is None else visible.double()
    moving, still = (mask, frame) if adjust_many else (frame, mask)
    inside, stack = shifted(moving, tried) * still, shifted(one, tried)
    valid = inside.flatten(1)
    left = (stack * inside.unsqueeze(1)).flatten(1)
    count = channels * valid.sum(1, keepdim=True).clamp(min=1)
    mean_one = left.sum(1, keepdim=True) / count
    var_one = (left * left).sum(1, keepdim=True) / count - mean_one.square()
    mean_many = valid @ many.sum(1).flatten(1).T / count
    var_many = valid @ many.square().sum(1).flatten(1).T / count - mean_many.square()
    both = left @ many.flatten(1).T / count - mean_one * mean_many
    fixed, fitted = (var_one, var_many) if adjust_many else (var_many, var_one)
    factor = (both / fitted.clamp(min=_FLOOR)).clamp(*CONTRAST)
    difference = mean_one - mean_many
    left_over = difference - difference.clamp(-BRIGHTNESS, BRIGHTNESS)
    error = fixed - 2 * factor * both + factor.square() * fitted + left_over.square()
    least, place = error.min(0)
    return Aligned(
        psnr=-10 * least.clamp(min=10 ** (-PSNR_CAP / 10)).log10(),
        images=stack[place],
        mirrored=torch.tensor([move[0] for move in tried], device=one.device)[place],
    )


def _offsets(most: int) -> list[int]:
    steps = min(most, _STEPS)
    return sorted({round(step * most / max(1, steps)) for step in range(-steps, steps + 1)})
