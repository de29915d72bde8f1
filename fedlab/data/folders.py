"""Images from a folder with one folder of pictures per class."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset
from torchvision.transforms.v2 import functional as transforms

from fedlab.core.errors import BadInput
from fedlab.core.seeds import generator
from fedlab.data.images import CENTRED, ImageData
from fedlab.data.request import Request, takes_argument

TEST_SHARE = 0.2
"""Share of the images of each class that are test images, where there is no folder ``test``."""

Sample = tuple[str, int]


@takes_argument("PATH")
def load_folder(request: Request) -> ImageData:
    """A folder with one folder of pictures per class, split or not.

    The pictures are in ``PATH/train/CLASS/*`` and ``PATH/test/CLASS/*`` (or ``val``), or in
    ``PATH/CLASS/*``, of which a fifth of each class becomes the test set. The images are grey if
    every picture is. With an image size, the shorter side of each picture is resized to it and the
    middle is cut out; otherwise all pictures must have the same size.

    Raises:
        BadInput: If there is no such folder, a picture cannot be read, or sizes differ.
    """
    path = Path(request.argument).expanduser()
    if not path.is_dir():
        raise BadInput(f"data.source names {path}, but there is no such folder")
    training, classes = _samples(path / "train" if (path / "train").is_dir() else path)
    held_out = next((path / name for name in ("test", "val") if (path / name).is_dir()), None)
    if (path / "train").is_dir():
        if held_out is None:
            raise BadInput(f"{path} has a folder train, but neither test nor val beside it")
        testing, others = _samples(held_out)
        if others != classes:
            raise BadInput(f"{held_out} has the classes {others}, but train has {classes}")
    else:
        training, testing = _split(training)
    grey = all(_is_grey(file) for file, _ in [*training, *testing])
    images = [
        torch.stack(
            _same_size([_picture(file, grey, request.image_size) for file, _ in part], path)
        )
        for part in (training, testing)
    ]
    channels = images[0].shape[1]
    return ImageData(
        name=path.name,
        train_images=images[0],
        train_labels=torch.tensor([label for _, label in training]),
        test_images=images[1],
        test_labels=torch.tensor([label for _, label in testing]),
        classes=tuple(classes),
        mean=CENTRED[:1] * channels,
        std=CENTRED[1:] * channels,
    )


def _samples(folder: Path) -> tuple[list[Sample], list[str]]:
    try:
        classes, numbers = find_classes(str(folder))
        return make_dataset(str(folder), numbers, IMG_EXTENSIONS), classes
    except FileNotFoundError as error:
        raise BadInput(f"{folder} needs one folder of pictures per class: {error}") from error


def _split(samples: list[Sample]) -> tuple[list[Sample], list[Sample]]:
    training: list[Sample] = []
    testing: list[Sample] = []
    for label in sorted({label for _, label in samples}):
        members = [sample for sample in samples if sample[1] == label]
        order = torch.randperm(len(members), generator=generator(0, "folder split", label)).tolist()
        count = round(TEST_SHARE * len(members))
        testing += [members[place] for place in sorted(order[:count])]
        training += [members[place] for place in sorted(order[count:])]
    if not testing:
        raise BadInput("the folder has too few pictures for a test set: 3 of a class at least")
    return training, testing


def _is_grey(file: str) -> bool:
    with _opened(file) as picture:
        return picture.mode in ("1", "L", "LA", "I;16")


def _picture(file: str, grey: bool, size: int | None) -> Tensor:
    with _opened(file) as picture:
        try:
            array = np.array(picture.convert("L" if grey else "RGB"))
        except OSError as error:
            raise BadInput(f"{file} is damaged: {error}") from error
    tensor = torch.from_numpy(array[None] if grey else array.transpose(2, 0, 1).copy())
    if size is None:
        return tensor
    shorter = transforms.resize(tensor, [size], antialias=True)
    middle: Tensor = transforms.center_crop(shorter, [size, size])
    return middle


def _opened(file: str) -> Image.Image:
    try:
        return Image.open(file)
    except (OSError, UnidentifiedImageError) as error:
        raise BadInput(f"{file} is no picture that can be read") from error


def _same_size(pictures: list[Tensor], path: Path) -> list[Tensor]:
    sizes = {tuple(picture.shape[1:]) for picture in pictures}
    if len(sizes) > 1:
        first, second = sorted(sizes)[:2]
        raise BadInput(
            f"the pictures in {path} have different sizes ({first[0]}x{first[1]}, "
            f"{second[0]}x{second[1]}): set data.image_size"
        )
    return pictures
