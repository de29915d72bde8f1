"""Images in a file that several processes map into their memory, where they then exist once."""

from pathlib import Path

import torch

from fedlab.data.images import ImageData


def write_images(images: ImageData, file: Path) -> None:
    """Write images for ``read_images``.

    Raises:
        OSError: If the file cannot be written.
    """
    torch.save(images, file)


def read_images(file: Path) -> ImageData:
    """Map images into memory; changing them in place changes neither the file nor other processes.

    Args:
        file: A file that this program itself wrote, since reading it runs what is pickled in it.
    """
    images: ImageData = torch.load(file, mmap=True, weights_only=False)
    return images
