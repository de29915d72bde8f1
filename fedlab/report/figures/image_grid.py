"""Grid of one image and its reconstructions, with rounds down and defenses across."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from fedlab.evaluation.leaks import load_leaks
from fedlab.report.figures.colours import LINE, defense_colour
from fedlab.report.figures.image_strips import Block, Line, Strip, image_picture
from fedlab.report.figures.sheet import NothingToDraw, Picture, first_of, styled
from fedlab.report.tables.naming import named
from fedlab.report.tables.numbers import decibels
from fedlab.results.folder import RunFolder
from fedlab.results.rows import LeakageRow

MOST_ROUNDS = 6
"""Largest number of rounds that are drawn by default."""

MOST_ACROSS = 5
"""Largest number of runs side by side; further runs go below."""


@dataclass(frozen=True)
class _Cell:
    """One image of a client in one round, as the best attack on it rebuilt it."""

    row: LeakageRow
    truth: Tensor
    rebuilt: Tensor
    attacks: int = 1


_Cells = dict[tuple[int, int, int], _Cell]
"""Cells by round, client and image."""


@styled()
def wall_figure(
    runs: Mapping[str, RunFolder],
    *,
    client: int | None = None,
    image: int = 0,
    rounds: Sequence[int] | None = None,
) -> Picture:
    """Draw the true image beside the rebuilt one, with a row for each round.

    Where an image was attacked more than once, the attack with the highest PSNR is shown.

    Args:
        runs: Runs by the name of their column, such as the defense. If there is a single run, each
            cell names the defense of its round.
        client: Partition id; default: the first client that was attacked.
        image: Position of the image in the client's batch, from 0.
        rounds: Rounds to draw, from 1; default: six attacked rounds at most, evenly spread.

    Raises:
        NothingToDraw: If there is no run, or the client was attacked in none of the rounds.
    """
    cells = {name: _cells(run.leak_files) for name, run in runs.items()}
    client = _first_attacked(cells) if client is None else client
    attacked = sorted({r for each in cells.values() for r, c, _ in each if c == client})
    chosen = _spread(attacked) if rounds is None else list(rounds)
    if not any((r, client) == key[:2] for each in cells.values() for key in each for r in chosen):
        raise NothingToDraw(f"the server did not attack client {client} in rounds {chosen}")
    names = list(cells)
    single = len(names) == 1
    blocks = [
        _block(
            {name: cells[name].get((round, client, image)) for name in part},
            f"round {round}",
            heads=row == 0 or single,
            single=single,
        )
        for part in (names[at : at + MOST_ACROSS] for at in range(0, len(names), MOST_ACROSS))
        for row, round in enumerate(chosen)
    ]
    key = "Left: true; right: rebuilt, with PSNR, verdict and chance."
    if any(cell.attacks > 1 for each in cells.values() for cell in each.values()):
        key += " Of several attacks the one with the highest PSNR."
    title = f"What did the server see of client {client}, image {image}?"
    picture = image_picture(blocks, title=title, notes=[key])
    picture.alt = _in_words(title, cells, chosen, client, image)
    return picture


def _block(cells: Mapping[str, _Cell | None], name: str, *, heads: bool, single: bool) -> Block:
    """Row of the wall: a pair of images for each run.

    Args:
        cells: Cell of each run in this round.
        name: Name of the row.
        heads: True to write the names of the runs above their images.
        single: True to name the defense of the round as well, since the row is of a single run.
    """
    images: list[Tensor | None] = []
    edges, below, names = [], [], []
    for head, cell in cells.items():
        rebuilt = cell.rebuilt if cell and not _lost(cell) else None
        images += [cell.truth if cell else None, rebuilt]
        edges += [LINE, LINE if cell is None else defense_colour(cell.row.defenses)]
        below.append(_scores(cell))
        names.append(f"{head}: {named(cell.row.defenses)}" if single and cell else head)
    return Block([Strip(name, images, edges, below)], names if heads else (), group=2)


def _scores(cell: _Cell | None) -> list[Line]:
    if cell is None:
        return [("not attacked", False)]
    score = "nothing rebuilt" if _lost(cell) else decibels(cell.row.psnr)
    leaks = cell.row.verdict == "leaks"
    return [(f"{score} · {cell.row.verdict}", leaks), (f"chance {cell.row.chance_psnr:.0f}", False)]


def _cells(files: Sequence[Path]) -> _Cells:
    found: _Cells = {}
    for cell in _all_cells(files):
        key = (cell.row.round, cell.row.client, cell.row.image)
        if (before := found.get(key)) is not None:
            better = _lost(before) or cell.row.psnr > before.row.psnr
            cell = replace(cell if better else before, attacks=before.attacks + 1)
        found[key] = cell
    return found


def _all_cells(files: Sequence[Path]) -> Iterator[_Cell]:
    for file in files:
        for leak in load_leaks(file):
            rows = [row for row in leak.rows if row.target == "original"]
            for row, truth, rebuilt in zip(rows, leak.originals, leak.rebuilt, strict=True):
                yield _Cell(row, truth, rebuilt)


def _lost(cell: _Cell) -> bool:
    """True if nothing was rebuilt of the image."""
    return math.isnan(cell.row.psnr)


def _first_attacked(cells: Mapping[str, _Cells]) -> int:
    keys = [key for each in cells.values() for key in each]
    if not keys:
        raise NothingToDraw("the server attacked nobody, so there is nothing to show")
    return min(keys)[1]


def _spread(rounds: Sequence[int]) -> list[int]:
    """Choose ``MOST_ROUNDS`` rounds at most, evenly from the first to the last."""
    if len(rounds) <= MOST_ROUNDS:
        return list(rounds)
    steps = (len(rounds) - 1) / (MOST_ROUNDS - 1)
    return [rounds[round(place * steps)] for place in range(MOST_ROUNDS)]


def _in_words(
    title: str, cells: Mapping[str, _Cells], rounds: Sequence[int], client: int, image: int
) -> str:
    parts = []
    for name, each in cells.items():
        shown = [each[r, client, image] for r in rounds if (r, client, image) in each]
        scores = sorted(cell.row.psnr for cell in shown if not _lost(cell))
        if not scores:
            parts.append(f"{name}: nothing rebuilt")
            continue
        leaking = sum(cell.row.verdict == "leaks" for cell in shown)
        chances = sorted(cell.row.chance_psnr for cell in shown)
        parts.append(
            f"{name}: {decibels(scores[0])} to {decibels(scores[-1])} beside chance "
            f"{decibels(chances[0])} to {decibels(chances[-1])}, "
            f"leaks in {leaking} of {len(shown)} rounds"
        )
    return f"{title} True beside rebuilt images. {first_of(parts)}."
