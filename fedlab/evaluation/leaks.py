"""A leak: what the server rebuilt of a client's images, beside the true ones and the scores."""

import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from attacks.reconstruction import Reconstruction
from fedlab.core.files import write_atomically
from fedlab.report.figures.reconstructions import Picture, ReconstructionRow, reconstruction_figure
from fedlab.report.tables.naming import named
from fedlab.results.rows import LeakageRow


@dataclass(frozen=True)
class Leak:
    """What the server rebuilt of one client in one round, and how good it is.

    Attributes:
        rows: Scores, one for each true image and target.
        originals: float32 ``[n, channels, height, width]`` in [0, 1], the true images.
        mixed: What the client's network saw instead, where a defense mixed them.
        rebuilt: What the attacker made of it, matched.
        reconstruction: The attacker's own result; ``None`` once read back from a file.
    """

    rows: tuple[LeakageRow, ...]
    originals: Tensor = field(repr=False)
    mixed: Tensor | None = field(repr=False)
    rebuilt: Tensor = field(repr=False)
    reconstruction: Reconstruction | None = field(default=None, repr=False)

    def table(self) -> pd.DataFrame:
        """The scores as a table."""
        return pd.DataFrame([asdict(row) for row in self.rows])

    def show(self) -> Picture:
        """True images above rebuilt ones."""
        return picture([self], title=f"What did the server see of client {self.rows[0].client}?")

    def _repr_html_(self) -> str:
        # Only here: what is drawn need not be loaded to attack.
        from fedlab.report.html.leak import leak_html

        return leak_html(self)


def picture(leaks: Sequence[Leak], *, title: str) -> Picture:
    """Leaks side by side, a row for each round and defense; scores are against the originals.

    What a malicious server saw has rows of its own.
    """

    def circumstances(leak: Leak) -> tuple[int, str, str]:
        return leak.rows[0].round, leak.rows[0].defenses, leak.rows[0].threat

    ordered = sorted(leaks, key=lambda leak: (leak.rows[0].round, leak.rows[0].threat))
    rows = [_picture_row(list(group)) for _, group in groupby(ordered, circumstances)]
    return reconstruction_figure(rows, title=title)


def _picture_row(leaks: Sequence[Leak]) -> ReconstructionRow:
    shown = [row for leak in leaks for row in leak.rows if row.target == "original"]
    # Only some images are shown: those that nothing was rebuilt of, as in fishing, come last.
    order = sorted(range(len(shown)), key=lambda place: math.isnan(shown[place].psnr))
    shown = [shown[place] for place in order]
    mixed = [leak.mixed for leak in leaks if leak.mixed is not None]
    first = shown[0]
    return ReconstructionRow(
        label=f"round {first.round} · {named(first.defenses)}"
        + (" · malicious server" if first.threat == "malicious" else ""),
        truth=torch.cat([leak.originals for leak in leaks])[order],
        guess=torch.cat([leak.rebuilt for leak in leaks])[order],
        psnr=[row.psnr for row in shown],
        ssim=[row.ssim for row in shown],
        verdict=[row.verdict for row in shown],
        defense=first.defenses,
        mixed=torch.cat(mixed)[order] if mixed else None,
        chance=[row.chance_psnr for row in shown],
        names=[
            f"client {row.client}, label {'given' if row.known_labels else 'inferred'}"
            for row in shown
        ],
    )


def picture_of(files: Sequence[Path], *, name: str) -> Picture:
    """All leaks in the files of a run in one picture.

    Args:
        files: What ``save_leaks`` wrote; at least one.
        name: Of the experiment, for the title.
    """
    leaks = [leak for file in files for leak in load_leaks(file)]
    return picture(leaks, title=f"{name}: what did the server see, round by round?")


def save_leaks(path: Path, leaks: Sequence[Leak]) -> None:
    """Keep images and scores of leaks in one .npz file."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
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
    """Read what ``save_leaks`` wrote."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    count = sum(name.endswith(".rows") for name in arrays)
    return [
        Leak(
            rows=tuple(LeakageRow(**row) for row in json.loads(str(arrays[f"{i}.rows"]))),
            originals=torch.from_numpy(arrays[f"{i}.originals"]),
            mixed=torch.from_numpy(arrays[f"{i}.mixed"]) if f"{i}.mixed" in arrays else None,
            rebuilt=torch.from_numpy(arrays[f"{i}.rebuilt"]),
        )
        for i in range(count)
    ]
