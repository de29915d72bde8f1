"""Figures of leaks: the true images of clients above the images that the server rebuilt."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fedlab.evaluation.leaks import Leak, LeakSeries, load_leaks
from fedlab.report.figures.attempts import Attempt, attempts_of, by_client, telling
from fedlab.report.figures.reconstructions import ReconstructionRow, reconstruction_figure
from fedlab.report.figures.sheet import NothingToDraw, Picture, evenly
from fedlab.report.tables.naming import left_out_note, named
from fedlab.results.folder import RunFolder

if TYPE_CHECKING:  # SciPy takes half a second to load
    from fedlab.evaluation.unmixing import UnmixedShard


MOST_ROUNDS = 8
"""Largest number of rounds whose images a picture of a run shows."""

MOST_ROWS = 12
"""Largest number of rows of images that it shows."""

COLUMNS = 8
"""Largest number of images side by side in a picture of a run."""


def leak_figure(leak: Leak) -> Picture:
    """Draw one leak."""
    title = f"What did the server see of client {leak.rows[0].client}?"
    return leaks_figure(LeakSeries((leak,), title))


def leaks_figure(series: LeakSeries) -> Picture:
    """Draw several leaks, with one row for each round, threat model and set of defenses.

    Scores compare the rebuilt images with the original images, not with the mixed ones.
    """
    rows = [
        # The figure draws the first images only, so images without a reconstruction, of which the
        # fishing attack has many, go to the end.
        _row(sorted(group, key=lambda each: each.lost))
        for group in _groups(series.leaks)
    ]
    return reconstruction_figure(rows, title=series.title)


def run_figure(run: RunFolder) -> Picture:
    """Draw the leaks of a run: of at most ``MOST_ROUNDS`` attacked rounds.

    Of several images of a client the best, the median and the worst are drawn, by PSNR.

    Raises:
        NothingToDraw: If the server has not attacked any client yet.
    """
    return picture_of(run.leak_files, name=run.scenario.name)


def picture_of(files: Sequence[Path], *, name: str) -> Picture:
    """Draw the leaks that are stored in some files, of which a note names those that are left out.

    Args:
        files: Files that ``save_leaks`` wrote, one for each attacked round, whose number ends the
            name.
        name: Name of the experiment, for the title.

    Raises:
        NothingToDraw: If there is no file.
    """
    if not files:
        raise NothingToDraw("the server has attacked nobody yet, so there is nothing to show")
    shown = evenly(files, MOST_ROUNDS)
    rows = [
        part
        for group in _groups([leak for file in shown for leak in load_leaks(file)])
        for part in _parts(group)
    ]
    drawn = evenly(rows, MOST_ROWS)
    left_out = [int(f.stem.rpartition("-")[2]) for f in files if f not in shown]
    notes = [
        left_out_note(left_out, len(files)) if left_out else "",
        f"Drawn: {len(drawn)} of {len(rows)} rows of images, evenly spread; all: folder "
        "reconstructions." * (len(drawn) < len(rows)),
        "Of several images of a client: the best, the median and the worst by PSNR, each under the "
        "attack that did best on it." * any(each.name for row in drawn for each in row),
    ]
    return reconstruction_figure(
        [_row(row) for row in drawn],
        title=f"{name}: what did the server see, round by round?",
        note=" ".join(filter(None, notes)),
        columns=COLUMNS,
    )


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


def _groups(leaks: Sequence[Leak]) -> list[list[Attempt]]:
    """Attempts of each round, threat model and set of defenses."""

    def circumstances(leak: Leak) -> tuple[int, str, str]:
        return leak.rows[0].round, leak.rows[0].defenses, leak.rows[0].threat

    ordered = sorted(leaks, key=lambda leak: (leak.rows[0].round, leak.rows[0].threat))
    return [
        [each for leak in group for each in attempts_of(leak)]
        for _, group in groupby(ordered, circumstances)
    ]


def _parts(group: Sequence[Attempt]) -> Iterator[list[Attempt]]:
    """Telling attempts on each client, as many clients together as fit side by side."""
    row: list[Attempt] = []
    for attempts in by_client(group).values():
        chosen = telling(attempts)
        if row and len(row) + len(chosen) > COLUMNS:
            yield row
            row = []
        row += chosen
    yield row


def _row(attempts: Sequence[Attempt]) -> ReconstructionRow:
    first = attempts[0].row
    seen = [each.seen for each in attempts if each.seen is not None]
    return ReconstructionRow(
        label=f"round {first.round} · {named(first.defenses)}"
        + (" · malicious server" if first.threat == "malicious" else ""),
        truth=torch.stack([each.truth for each in attempts]),
        guess=torch.stack([each.rebuilt for each in attempts]),
        psnr=[each.row.graded_psnr for each in attempts],
        ssim=[each.row.ssim for each in attempts],
        verdict=[each.row.verdict for each in attempts],
        defense=first.defenses,
        mixed=torch.stack(seen) if seen else None,
        chance=[each.row.chance_psnr for each in attempts],
        names=[_name(each) for each in attempts],
    )


def _name(attempt: Attempt) -> str:
    row = attempt.row
    place = f"{attempt.name}: " * bool(attempt.name)
    return f"{place}client {row.client}, label {'given' if row.known_labels else 'inferred'}"
