"""Write images as PNG files and data URIs with the standard library alone.

W3C, Portable Network Graphics (Third Edition), with eight bits per sample and no filter.
"""

import base64
import struct
import zlib

import torch
from torch import Tensor

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _COLOUR = 0, 2


def png(image: Tensor) -> bytes:
    """Encode an image as PNG.

    Args:
        image: float ``[1 or 3, height, width]``, pixels in [0, 1]; other values are clamped, and
            NaN becomes mid-grey.

    Raises:
        ValueError: If the image has another shape.
    """
    if image.ndim != 3 or image.shape[0] not in (1, 3) or not image.numel():
        raise ValueError(f"an image is [1 or 3, height, width], not {list(image.shape)}")
    channels, height, width = image.shape
    pixels = image.detach().cpu().float().nan_to_num(nan=0.5).clamp(0, 1)
    samples = (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).reshape(height, -1)
    # Each line begins with its filter type; 0 is no filter.
    lines = torch.cat([torch.zeros(height, 1, dtype=torch.uint8), samples], dim=1)
    kind = _GREY if channels == 1 else _COLOUR
    return (
        _SIGNATURE
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))
        + _chunk(b"IDAT", zlib.compress(bytes(lines.flatten().tolist())))
        + _chunk(b"IEND", b"")
    )


def data_uri(image: Tensor) -> str:
    """Encode an image as a ``data:`` URI, which a page can show without a request."""
    return "data:image/png;base64," + base64.b64encode(png(image)).decode()


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
