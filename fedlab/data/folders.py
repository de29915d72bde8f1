"""Images from a folder with one folder of pictures per class."""

from pathlib import Path

import torch

from fedlab.core.errors import BadInput
from fedlab.core.seeds import generator
from fedlab.data.images import CENTRED, ImageData
from fedlab.data.layout import Samples, find_pictures
from fedlab.data.pictures import read_pictures
from fedlab.data.request import Request, reads, takes_argument

TEST_SHARE = 0.2
"""Share of the images of each class that are test images, where there is no folder ``test``."""


@takes_argument("PATH")
@reads("image_size")
def load_folder(request: Request) -> ImageData:
    """A folder with one folder of pictures per class, split or not.

    The pictures are in ``PATH/train/CLASS/*`` and ``PATH/test/CLASS/*`` (or ``val``), or in
    ``PATH/CLASS/*``, of which a fifth of each class becomes the test set. The images are grey if
    every picture is. With an image size, the middle square of each picture is resized to it;
    otherwise all pictures must have the same size. Hidden folders are left out.

    Raises:
        BadInput: If there is no such folder, a picture cannot be read, or sizes differ.
    """
    path = Path(request.argument).expanduser()
    if not path.is_dir():
        raise BadInput(f"data.source names {path}, but there is no such folder")
    layout = find_pictures(path)
    training, testing = (
        _split(layout.training) if layout.testing is None else (layout.training, layout.testing)
    )
    files = [file for part in (training, testing) for each in part.values() for file in each]
    images = read_pictures(files, size=request.image_size)
    labels = [_labels(part) for part in (training, testing)]
    channels = images.shape[1]
    return ImageData(
        name=path.resolve().name,
        train_images=images[: len(labels[0])],
        train_labels=labels[0],
        test_images=images[len(labels[0]) :],
        test_labels=labels[1],
        classes=tuple(layout.training),
        mean=CENTRED[:1] * channels,
        std=CENTRED[1:] * channels,
    )


def _labels(samples: Samples) -> torch.Tensor:
    return torch.tensor([label for label, files in enumerate(samples.values()) for _ in files])


def _split(samples: Samples) -> tuple[Samples, Samples]:
    training: Samples = {}
    testing: Samples = {}
    for label, (name, files) in enumerate(samples.items()):
        order = torch.randperm(len(files), generator=generator(0, "folder split", label)).tolist()
        count = round(TEST_SHARE * len(files))
        testing[name] = [files[place] for place in sorted(order[:count])]
        training[name] = [files[place] for place in sorted(order[count:])]
    if not any(testing.values()):
        raise BadInput("the folder has too few pictures for a test set: 3 of a class at least")
    return training, testing
