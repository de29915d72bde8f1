"""Pictures that commands write, and their live preview."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fedlab.core.errors import BadInput
from fedlab.core.files import check_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from attacks.reconstruction.watch import Progress


def prepare_picture(path: Path) -> Path:
    """Check the format of a picture and make its folder before an attack that takes minutes.

    Raises:
        BadInput: If the picture cannot be written there.
    """
    from fedlab.report.figures.sheet import format_of

    check_folder(path.parent)
    if path.is_dir():
        raise BadInput(f"{path} is a folder: name a picture to write with --out")
    format_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def preview_writer(preview: Path | None) -> Callable[[Progress], None] | None:
    """Make the function that draws the images of an attack while it runs.

    Raises:
        BadInput: If the preview cannot be written.
    """
    if preview is None:
        return None
    target = prepare_picture(preview)

    def write(progress: Progress) -> None:
        from fedlab.report.figures.gallery import gallery
        from fedlab.report.figures.reconstructions import save

        names = [""] * len(progress.images)
        title = f"restart {progress.restart}, iteration {progress.iteration}, {progress.cost:.2g}"
        save(gallery(progress.images, names, title=title), target)

    return write
