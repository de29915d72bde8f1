"""The options of a benchmark."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import THREADS
from fedlab.core.errors import BadInput

HOW = (
    "no images: name an .npz of CIFAR-10 with --data, such as one made by "
    "`python ../shared/data/make_npz.py cifar10 cifar10.npz --train 10000 --test 2000`"
)


@dataclass(frozen=True)
class Options:
    """The options of the command line; ``None`` leaves the choice to the benchmark.

    Attributes:
        repeats: Number of repeats, at least 1.
        data: An .npz file with images.
        picture: A PNG file to write.
        photo: A picture of at least 256 pixels a side.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        networks: Names of networks, separated by commas.
        cells: A file of JSON lines in which finished parts are kept.

    Raises:
        BadInput: If the number of repeats is below 1.
    """

    repeats: int | None = None
    data: Path | None = None
    picture: Path | None = None
    photo: Path | None = None
    device: str = "cpu"
    networks: str | None = None
    cells: Path | None = None

    def __post_init__(self) -> None:
        if self.repeats is not None and self.repeats < 1:
            raise BadInput(f"--repeats is {self.repeats}, but must be at least 1")

    def __str__(self) -> str:
        """The options as on the command line, with file names instead of paths."""
        repeats = f" --repeats {self.repeats}" if self.repeats else ""
        data = f" --data {self.data.name}" if self.data else ""
        photo = f" --photo {self.photo.name}" if self.photo else ""
        device = f" --device {self.device}" if self.device != "cpu" else ""
        networks = f' --networks "{self.networks}"' if self.networks else ""
        return repeats + data + photo + device + networks

    @property
    def processes(self) -> int:
        """Number of processes that run side by side: one for each free core."""
        return max(1, len(os.sched_getaffinity(0)) // THREADS)


def cifar(options: Options) -> str:
    """The path of the file with CIFAR-10.

    Raises:
        BadInput: If there is no such file.
    """
    if options.data is None or not options.data.is_file():
        raise BadInput(HOW)
    return str(options.data)


def data_sets(options: Options, names: Sequence[str]) -> list[Path]:
    """The .npz files of data sets in the folder that the options name.

    Args:
        options: The options.
        names: Names of the data sets.

    Raises:
        BadInput: If one is missing.
    """
    files = [(options.data or Path()) / f"{name}.npz" for name in names]
    if missing := [file.name for file in files if not file.is_file()]:
        raise BadInput(f"--data must name a folder with {', '.join(missing)}")
    return files
