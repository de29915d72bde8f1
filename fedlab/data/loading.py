"""Loading the images that a scenario names."""

import logging
from pathlib import Path

from fedlab.core.errors import BadInput, nearest
from fedlab.core.plugins import describe
from fedlab.data.images import ImageData
from fedlab.data.registry import DATASETS
from fedlab.data.request import Request, argument_of, takes_request, unused_option

log = logging.getLogger(__name__)


def load(
    source: str,
    *,
    root: str | Path = "~/.cache/fedlab",
    download: bool = False,
    factory: str | None = None,
    image_size: int | None = None,
    label_by: str | None = None,
    group_by: str | None = None,
) -> ImageData:
    """Load all images of a data set onto the CPU.

    Args:
        source: Name such as ``digits`` or ``cifar10``, a name with an argument such as
            ``npz:PATH``, or the user's own function as ``package.module:function``.
        root: Folder in which downloaded data sets are stored.
        download: True to download missing files.
        factory: With ``source = "factory"``, the function as ``package.module:function``.
        image_size: Side in pixels to which images of ``folder:PATH`` and ``hf:NAME`` are resized.
        label_by: Column of ``hf:NAME`` with the labels, if there are several that could be.
        group_by: Column of ``hf:NAME`` that says where each image comes from.

    Raises:
        BadInput: If there is no such data set, it cannot be loaded, or it does not use one of these
            settings.

    Example:
        >>> load("digits")
        ImageData('digits', 1437 + 360 images of 1x8x8, 10 classes, cpu)
    """
    if source == "factory":
        source = factory or ""
        if ":" not in source:
            raise BadInput(f'data.factory "{source}" must be written as package.module:function')
        name, argument = source, ""
    else:
        name, argument = _parse(source)
    function = DATASETS.get(name)
    if bool(argument_of(function)) != bool(argument):
        wanted = f"{name}:{argument_of(function)}" if argument_of(function) else name
        raise BadInput(f'data.source "{source}" must be written as "{wanted}"')
    try:
        request = Request(
            argument, Path(root).expanduser(), download, image_size, label_by, group_by
        )
        if option := unused_option(function, request):
            raise BadInput(f'data.{option} does not apply to data.source "{source}": leave it out')
        data = function(request) if takes_request(function) else function()
    except BadInput:
        raise
    except (Exception, SystemExit) as error:  # somebody else's function may raise anything
        raise BadInput(f'data set "{source}" cannot be loaded: {describe(error)}') from error
    if not isinstance(data, ImageData):
        raise BadInput(f'data set "{source}" must return a fedlab.data.ImageData, not {type(data)}')
    if argument and (count := data.repeated_test_images()):
        counts = data.name, count, len(data.test_labels)
        log.warning(
            "%s: %d of %d test images are training images too, so accuracy is too good", *counts
        )
    return data


def _parse(source: str) -> tuple[str, str]:
    """Split a source into the name of its data set and an argument, which may be empty."""
    name, colon, argument = source.partition(":")
    if name in DATASETS:
        if colon and not argument:
            raise BadInput(f'data.source "{source}" ends at its colon: name a path')
        return name, argument
    if argument.replace(".", "").isidentifier():
        return source, ""
    raise BadInput(f'there is no data set "{source}"; {nearest(name, DATASETS.names)}')
