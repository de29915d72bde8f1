"""True and public images of an audit, given as images or by the name of a file or a data set."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from attacks.knowledge import PublicImages
from attacks.reconstruction.problem import MOST_PUBLIC
from fedlab.core.errors import BadInput
from fedlab.data.loading import load
from fedlab.data.npz import load_labelled

Truth = tuple[Tensor, Sequence[int] | Tensor]
"""True images ``[n, channels, height, width]``, uint8 or pixels in [0, 1], and their labels."""


def true_images(truth: Truth | Path | str | None) -> Truth | None:
    """True images and labels, read from an .npz file with both if one is named.

    Raises:
        BadInput: If the file cannot be read, or has other arrays.
    """
    return load_labelled(Path(truth)) if isinstance(truth, Path | str) else truth


def public_images(
    public: PublicImages | str | None, shape: tuple[int, int, int], classes: int
) -> PublicImages | None:
    """Public images, which are the test images of a data set if one is named.

    Args:
        public: Images, or a data set as ``data.source`` of a scenario names it, such as
            ``npz:public.npz``.
        shape: Channels, height and width of the client's images.
        classes: Number of outputs of the network.

    Raises:
        BadInput: If there is no such data set, or its images are of another kind.
    """
    if not isinstance(public, str):
        return public
    data = load(public, image_size=shape[1] if public.startswith(("folder:", "hf:")) else None)
    if data.shape != shape or data.num_classes > classes:
        raise BadInput(
            f"the public images of {public} are {'x'.join(map(str, data.shape))} in "
            f"{data.num_classes} classes, but the client's are {'x'.join(map(str, shape))} in "
            f"{classes}: give images of the same kind"
        )
    return PublicImages(data.pixels(data.test_images[:MOST_PUBLIC]), data.test_labels[:MOST_PUBLIC])
