"""Leaks: reconstructed images of a client beside the true ones, with their scores."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from attacks.reconstruction import Reconstruction
from fedlab.core.errors import BadInput
from fedlab.core.files import write_atomically
from fedlab.core.plugins import describe
from fedlab.core.views import Viewable
from fedlab.results.attacks import UNKNOWN
from fedlab.results.rows import LeakageRow, values_by_column
from fedlab.results.table_files import checked_row

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Leak(Viewable):
    """Reconstruction of one client's images in one round, with its scores.

    Attributes:
        rows: Scores, one row for each true image and target.
        originals: float32 ``[n, channels, height, width]`` in [0, 1], true images; for a mixture
            the best reconstructed of its images.
        mixed: Inputs of the client's network where a defense mixed images, else ``None``.
        rebuilt: Reconstructed image for each true one; NaN where one is missing.
        reconstruction: Result of the attack; ``None`` for a leak that was read from a file.
    """

    rows: tuple[LeakageRow, ...]
    originals: Tensor = field(repr=False)
    mixed: Tensor | None = field(repr=False)
    rebuilt: Tensor = field(repr=False)
    reconstruction: Reconstruction | None = field(default=None, repr=False)

    def table(self) -> pd.DataFrame:
        """The scores as a table, one row for each true image and target."""
        return pd.DataFrame([values_by_column(row) for row in self.rows])

    def show(self) -> "Figure":
        """Draw the true images above the rebuilt ones; the same as ``picture``."""
        return self.picture()


@dataclass(frozen=True)
class LeakSeries(Viewable):
    """Leaks that one picture shows, such as all leaks of a round or of a run.

    Attributes:
        leaks: At least one leak.
        title: Title of the picture: the question that it answers.
    """

    leaks: tuple[Leak, ...]
    title: str


def save_leaks(path: Path, leaks: Sequence[Leak], *, about: str = "") -> None:
    """Write images and scores of leaks to one .npz file, with a text about them."""
    arrays: dict[str, np.ndarray[Any, Any]] = {"about": np.array(about)} if about else {}
    for index, leak in enumerate(leaks):
        arrays[f"{index}.originals"] = leak.originals.numpy()
        arrays[f"{index}.rebuilt"] = leak.rebuilt.numpy()
        arrays[f"{index}.rows"] = np.array(json.dumps([asdict(row) for row in leak.rows]))
        if leak.mixed is not None:
            arrays[f"{index}.mixed"] = leak.mixed.numpy()
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    write_atomically(path, content.getvalue())


def load_leaks(path: Path) -> list[Leak]:
    """Read the leaks from a file that ``save_leaks`` wrote.

    Raises:
        BadInput: If the file is damaged.
    """
    return load_described_leaks(path)[0]


def load_described_leaks(path: Path) -> tuple[list[Leak], str]:
    """Read the leaks from a file that ``save_leaks`` wrote, and the text about them.

    Raises:
        BadInput: If the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        count = sum(name.endswith(".rows") for name in arrays)
        if not count:
            raise ValueError("it holds no reconstruction")
        about = str(arrays.get("about", ""))
        return [_leak_of(arrays, index) for index in range(count)], about
    except Exception as error:  # a damaged file may raise anything in zipfile, zlib and NumPy
        raise BadInput(f"{path} is damaged: {describe(error)[:200]}") from error


def _leak_of(arrays: Mapping[str, Any], index: int) -> Leak:
    rows = tuple(checked_row(LeakageRow, row) for row in json.loads(str(arrays[f"{index}.rows"])))
    images = {
        name: torch.from_numpy(arrays[f"{index}.{name}"])
        for name in ("originals", "rebuilt", "mixed")
        if f"{index}.{name}" in arrays
    }
    for each in images.values():
        if each.ndim != 4 or not each.is_floating_point() or each.shape[1] not in (1, 3):
            raise ValueError("its images have no height, width and channels")
    shown = sum(row.target in ("original", UNKNOWN) for row in rows)
    if len(images["originals"]) != shown or images["rebuilt"].shape != images["originals"].shape:
        raise ValueError("it has other numbers of rows and images")
    return Leak(rows, images["originals"], images.get("mixed"), images["rebuilt"])
