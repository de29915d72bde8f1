"""Every source of images that a scenario can name."""

from pathlib import Path

from fedlab.core.errors import BadInput, nearest
from fedlab.data.digits import DIGITS
from fedlab.data.folders import FOLDER
from fedlab.data.images import ImageData
from fedlab.data.npz import NPZ
from fedlab.data.own import OWN
from fedlab.data.request import Request, Source
from fedlab.data.torchvision_sets import TORCHVISION_SETS

SOURCES: dict[str, Source] = {
    "digits": DIGITS,
    **TORCHVISION_SETS,
    "folder": FOLDER,
    "npz": NPZ,
    "factory": OWN,
}
"""By the part of ``data.source`` before the colon."""


def load(
    source: str,
    *,
    root: str | Path = "~/.cache/fedlab",
    download: bool = False,
    factory: str | None = None,
    image_size: int | None = None,
) -> ImageData:
    """The images of a source, on the CPU.

    Args:
        source: ``digits``, ``cifar10``, ``npz:PATH``, ... as ``fedlab data`` lists them.
        root: Where downloaded data sets live.
        download: Fetch what is missing.
        factory: With ``source = "factory"``: ``package.module:function``.
        image_size: With ``folder:PATH``: side in pixels.

    Raises:
        BadInput: If there is no such source, or it has no such images.

    Example:
        >>> load("digits")
        ImageData('digits', 1437 + 360 images of 1x8x8, 10 classes, cpu)
    """
    name, colon, rest = source.partition(":")
    if name not in SOURCES:
        raise BadInput(f'data.source "{source}" is unknown; {nearest(name, SOURCES)}')
    found = SOURCES[name]
    if bool(found.argument) != bool(rest) or (colon and not rest):
        wanted = f"{name}:{found.argument}" if found.argument else name
        raise BadInput(f'data.source "{source}" must be written as "{wanted}"')
    return found.load(Request(rest, Path(root).expanduser(), download, image_size, factory))
