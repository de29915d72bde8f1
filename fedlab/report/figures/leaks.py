"""Figures of leaks: the true images of clients above the images that the server rebuilt."""

import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fedlab.evaluation.leaks import Leak, LeakSeries, load_leaks
from fedlab.report.figures.reconstructions import ReconstructionRow, reconstruction_figure
from fedlab.report.figures.sheet import NothingToDraw, Picture, evenly
from fedlab.report.tables.naming import named
from fedlab.results.attacks import UNKNOWN
from fedlab.results.folder import RunFolder

if TYPE_CHECKING:  # SciPy takes half a second to load
    from fedlab.evaluation.unmixing import UnmixedShard


MOST_ROUNDS = 16
"""Largest number of rounds whose images a picture of a run shows."""


def leak_figure(leak: Leak) -> Picture:
    """Draw one leak."""
    title = f"What did the server see of client {leak.rows[0].client}?"
    return leaks_figure(LeakSeries((leak,), title))


def leaks_figure(series: LeakSeries) -> Picture:
    """Draw several leaks, with one row for each round, threat model and set of defenses.

    Scores compare the rebuilt images with the original images, not with the mixed ones.
    """
    return reconstruction_figure(_rows(series.leaks), title=series.title)


def run_figure(run: RunFolder) -> Picture:
    """Draw the leaks of a run: of at most ``MOST_ROUNDS`` attacked rounds.

    Raises:
        NothingToDraw: If the server has not attacked any client yet.
    """
    return picture_of(run.leak_files, name=run.scenario.name)


def picture_of(files: Sequence[Path], *, name: str) -> Picture:
    """Draw the leaks that are stored in some files, of which a note names those that are left out.

    Args:
        files: Files that ``save_leaks`` wrote, one for each attacked round.
        name: Name of the experiment, for the title.

    Raises:
        NothingToDraw: If there is no file.
    """
    if not files:
        raise NothingToDraw("the server has attacked nobody yet, so there is nothing to show")
    shown = evenly(files, MOST_ROUNDS)
    rows = _rows([leak for file in shown for leak in load_leaks(file)])
    drawn = evenly(rows, 2 * MOST_ROUNDS)
    parts = [f"{len(shown)} of {len(files)} attacked rounds"] * (len(shown) < len(files))
    parts += [f"{len(drawn)} of {len(rows)} rows of images"] * (len(drawn) < len(rows))
    note = (
        f"Drawn: {' and '.join(parts)}, evenly spread; all: folder reconstructions."
        if parts
        else ""
    )
    title = f"{name}: what did the server see, round by round?"
    return reconstruction_figure(drawn, title=title, note=note if parts else "")


def unmixed_figure(shard: "UnmixedShard") -> Picture:
    """Draw the images of a client above those un-mixed from DP-InstaHide's mixtures."""
    row = ReconstructionRow(
        label=f"client {shard.client} · {shard.mixtures} mixtures of {len(shard.rounds)} rounds",
        truth=shard.originals,
        guess=shard.rebuilt,
        psnr=shard.psnr,
        ssim=shard.ssim,
        verdict=shard.verdicts,
        defense="dp-instahide",
        chance=shard.chance,
    )
    return reconstruction_figure([row], title="Can the mixtures of many rounds be un-mixed?")


def _rows(leaks: Sequence[Leak]) -> list[ReconstructionRow]:
    """One row for each round, threat model and set of defenses."""

    def circumstances(leak: Leak) -> tuple[int, str, str]:
        return leak.rows[0].round, leak.rows[0].defenses, leak.rows[0].threat

    ordered = sorted(leaks, key=lambda leak: (leak.rows[0].round, leak.rows[0].threat))
    return [_row(list(group)) for _, group in groupby(ordered, circumstances)]


def _row(leaks: Sequence[Leak]) -> ReconstructionRow:
    targets = ("original", UNKNOWN)
    shown = [row for leak in leaks for row in leak.rows if row.target in targets]
    # The figure draws the first images only, so images without a reconstruction, of which the
    # fishing attack has many, go to the end.
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
