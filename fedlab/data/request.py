"""What a source of images is asked for, and what it has to offer."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedlab.data.images import ImageData


@dataclass(frozen=True)
class Request:
    """What a scenario says about its images.

    Attributes:
        rest: What follows the colon of a source such as ``folder:PATH``.
        root: Where downloaded data sets live.
        download: Whether something may be fetched.
        image_size: Side in pixels that images are resized to.
        factory: ``package.module:function`` of the user's own images.
    """

    rest: str
    root: Path
    download: bool = False
    image_size: int | None = None
    factory: str | None = None


@dataclass(frozen=True)
class Source:
    """A place where images come from.

    Attributes:
        description: One line for ``fedlab data``.
        load: Gets them, all of them, on the CPU.
        argument: What a scenario writes after the name and a colon, such as ``PATH``.
    """

    description: str
    load: Callable[[Request], ImageData]
    argument: str = ""
