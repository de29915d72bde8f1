"""Picture files as uint8 pixels: Pillow reads each one, within limits, before it is converted.

Pillow's own ``convert`` cuts pixels of more than 8 bits off at 255, so they are scaled here.
"""

import logging
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from fedlab.core.errors import BadInput
from fedlab.core.memory import check_memory
from fedlab.core.plugins import describe

FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are read, by Pillow's names. Others are refused whatever a file is called, since
Pillow starts a program to read some, such as EPS."""

PHOTOMETRIC = 262
"""TIFF tag that states what a pixel of 0 is: 0 for white, 1 for black."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Read:
    """A picture as it was read.

    Attributes:
        pixels: uint8 ``[1 or 3, height, width]``, or float32 for deep pixels, not scaled yet.
        brightest: Largest deep pixel; 0 in a picture of 8 bits.
    """

    pixels: Tensor
    brightest: int = 0


def is_picture(file: Path) -> bool:
    """Test whether the ending of a file is that of a format in ``FORMATS``."""
    return Image.registered_extensions().get(file.suffix.lower()) in FORMATS


def read_pictures(files: Sequence[Path], *, size: int | None) -> Tensor:
    """Read picture files of one data set; see ``read_encoded``.

    Args:
        files: Files to read, at least one.
        size: Side in pixels to which the middle square of each picture is resized; ``None`` keeps
            the pictures as they are, which must then have the same size.

    Raises:
        BadInput: If a file is no picture that can be read, sizes differ, or memory is too small.
    """
    for file in files:
        if not file.is_file():
            raise BadInput(f"{file} is no regular file")
    named = ((str(file), file) for file in files)
    return read_encoded(named, len(files), size=size, where=f"pictures of {files[0].parent}")


def read_encoded(
    pictures: Iterable[tuple[str, Path | bytes]], count: int, *, size: int | None, where: str
) -> Tensor:
    """Read the pictures of one data set, one after another.

    Pictures are turned as their EXIF data say, transparent pixels are shown on white, and of an
    animation the first frame is read. Pixels of more than 8 bits are scaled to 0 .. 255 by one
    factor for all files: the brightest pixel determines how many bits are in use. Pixels that are
    floating point numbers must be in [0, 1].

    Args:
        pictures: Name of each for messages, and its file or the contents of one; at least one.
        count: Number of pictures.
        size: Side in pixels to which the middle square of each picture is resized; ``None`` keeps
            the pictures as they are, which must then have the same size.
        where: What messages call all pictures together.

    Returns:
        uint8 ``[n, channels, height, width]`` with 1 channel if every picture is grey, else 3.

    Raises:
        BadInput: If one is no picture that can be read, sizes differ, or memory is too small.
    """
    Image.init()
    read: list[_Read] = []
    first = ""
    for name, file in pictures:
        read.append(_read(name, file, size))
        pixels = read[-1].pixels
        if len(read) == 1:
            first = name
            check_memory(count * pixels.nbytes, f"the {count} {where}")
        if pixels.shape[1:] != read[0].pixels.shape[1:]:
            raise BadInput(
                f"{first} has {_size(read[0])} pixels, but {name} has {_size(read[-1])}: set "
                "data.image_size"
            )
    bits = _bits(max(each.brightest for each in read))
    if any(each.pixels.is_floating_point() for each in read):
        log.warning("pictures of more than 8 bits use %d bits, which are scaled to 0 .. 255", bits)
    channels = max(len(each.pixels) for each in read)
    return torch.stack([_scaled(each, bits).expand(channels, -1, -1) for each in read])


def _size(picture: _Read) -> str:
    return "x".join(map(str, picture.pixels.shape[1:]))


def _bits(brightest: int) -> int:
    """The number of bits in use: cameras and scanners have 8, 10, 12, 14 or 16."""
    return max(8, brightest.bit_length() + brightest.bit_length() % 2)


def _scaled(picture: _Read, bits: int) -> Tensor:
    if not picture.pixels.is_floating_point():
        return picture.pixels
    scaled: Tensor = picture.pixels * (255 / (2**bits - 1))
    return scaled.round().clamp(0, 255).to(torch.uint8)


def _read(name: str, file: Path | bytes, size: int | None) -> _Read:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow thinks of the metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            stream = BytesIO(file) if isinstance(file, bytes) else file
            with Image.open(stream, formats=FORMATS) as opened:
                read = _understood(opened, name)
    except BadInput:
        raise
    except Exception as error:  # a damaged file may raise anything in Pillow
        raise BadInput(f"{name} is no picture that can be read: {describe(error)}") from error
    if size is None:
        return read
    side = min(read.pixels.shape[1:])
    check_memory(12 * size * size, f"a picture of {size}x{size} pixels")
    middle = transforms.center_crop(read.pixels, [side, side])
    return _Read(transforms.resize(middle, [size, size], antialias=True), read.brightest)


def _understood(opened: Image.Image, name: str) -> _Read:
    """Decode a picture by its mode."""
    if getattr(opened, "is_animated", False) and opened.format != "MPO":  # a camera's thumbnails
        log.warning("%s has several frames, of which the first is read", name)
    inverted = opened.format == "TIFF" and opened.tag_v2.get(PHOTOMETRIC) == 0  # type: ignore[attr-defined]
    picture = ImageOps.exif_transpose(opened)
    if picture.mode[0] in "IF":
        if inverted:  # Pillow inverts it for 8 bits only
            raise BadInput(f"{name} stores white as 0: save it with black as 0")
        return _deep(picture, name)
    if picture.has_transparency_data:
        shown = picture.convert("LA") if picture.mode == "La" else picture
        shown = shown.convert("RGBA")
        white = Image.new("RGBA", shown.size, "white")
        colours = np.array(Image.alpha_composite(white, shown).convert("RGB"))
    elif picture.mode in ("1", "L"):
        return _Read(torch.from_numpy(np.array(picture.convert("L"))[None]))
    else:
        colours = np.array(picture.convert("RGB"))
    pixels = torch.from_numpy(colours.transpose(2, 0, 1).copy())
    # A palette and a converted transparent picture may hold nothing but grey.
    may_be_grey = picture.mode in ("1", "L", "LA", "La", "P", "PA")
    grey = may_be_grey and bool((pixels == pixels[:1]).all())
    return _Read(pixels[:1] if grey else pixels)


def _deep(picture: Image.Image, name: str) -> _Read:
    """Pixels of 16 or 32 bits, or floating point numbers."""
    values = np.array(picture.convert("I") if picture.mode.startswith("I;") else picture)
    low, high = values.min(), values.max()
    if picture.mode == "F":
        if not 0 <= low <= high <= 1:  # false for NaN as well
            raise BadInput(
                f"{name} has pixels from {low:g} to {high:g}: floating point pixels must be in "
                "[0, 1]"
            )
        return _Read(torch.from_numpy((values * 255).round().astype(np.uint8)[None]))
    if low < 0:
        raise BadInput(f"{name} has negative pixels: scale them to 0 .. 65535")
    return _Read(torch.from_numpy(values.astype(np.float32)[None]), int(high))
