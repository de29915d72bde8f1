"""The images of a comparison, loaded once for all of its runs and processes."""

import weakref
from pathlib import Path

from fedlab.client.federated_data import whole_images
from fedlab.data.image_file import write_images
from fedlab.results.temporary import temporary_folder
from fedlab.scenario.tables import Data

SOURCE = {"source", "root", "download", "factory", "image_size", "label_by", "group_by"}
"""Settings of a data set on which its images depend."""


class SharedImages:
    """Files for ``read_images`` with whole data sets, which go with the last reference to this."""

    def __init__(self) -> None:
        self._files: dict[str, Path] = {}
        self._folder, discard = temporary_folder()
        weakref.finalize(self, discard)

    def file(self, settings: Data) -> Path:
        """The file with all images of a data set, which are loaded at the first call.

        Raises:
            BadInput: If the images are not available.
        """
        source = settings.model_dump_json(include=SOURCE)
        if source not in self._files:
            file = self._folder / f"{len(self._files)}.pt"
            write_images(whole_images(settings), file)
            self._files[source] = file
        return self._files[source]
