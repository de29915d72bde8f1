"""A wall of images: what was true and what was rebuilt of it, rounds down and defenses across."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from fedlab.evaluation.leaks import load_leaks
from fedlab.report.figures.colours import FAINT, INK, defense_colour
from fedlab.report.figures.sheet import NothingToDraw, Picture, Sheet, first_of
from fedlab.report.figures.text_layout import SMALL, TEXT, TITLE, line_height, width, wrapped
from fedlab.report.tables.naming import named
from fedlab.report.tables.numbers import decibels
from fedlab.results.folder import RunFolder
from fedlab.results.rows import LeakageRow

# All in inches.
_MARGIN = 0.25
_IMAGE = 0.85
_BETWEEN = 0.05
_CELL = 2 * _IMAGE + _BETWEEN
_GAP = 0.22
_LEAST_WIDTH = 5.2

MOST_ROUNDS = 6
"""Shown unless rounds are named."""

MOST_ACROSS = 6
"""Runs beside each other; more go below."""


@dataclass(frozen=True)
class _Cell:
    """One image of a client in one round: the best of the attacks on it."""

    row: LeakageRow
    truth: Tensor
    rebuilt: Tensor
    attacks: int = 1


_Cells = dict[tuple[int, int, int], _Cell]
"""By round, client and image."""


def wall_figure(
    runs: Mapping[str, RunFolder],
    *,
    client: int | None = None,
    image: int = 0,
    rounds: Sequence[int] | None = None,
) -> Picture:
    """The true image beside the rebuilt one, with PSNR, verdict and chance; a row for each round.

    Where an image was attacked more than once, the attack with the highest PSNR is shown.

    Args:
        runs: By what their column is called, such as the defense. Of a single run each cell names
            the defense of its round.
        client: Partition id; the first that was attacked unless given.
        image: Place in the client's batch.
        rounds: All in which the client was attacked unless given; of more than six the first, the
            last and four evenly between.

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
    blocks = [names[start : start + MOST_ACROSS] for start in range(0, len(names), MOST_ACROSS)]
    left = _MARGIN + max(width(f"round {r}", TEXT) for r in chosen) + 0.15
    page = max(left + min(len(names), MOST_ACROSS) * (_CELL + _GAP) - _GAP + _MARGIN, _LEAST_WIDTH)
    title = f"What did the server see of client {client}, image {image}?"
    titles = wrapped(title, TITLE, page - 2 * _MARGIN, bold=True)
    key = "Left: true; right: rebuilt, with PSNR, verdict and chance."
    if any(cell.attacks > 1 for each in cells.values() for cell in each.values()):
        key += " Of several attacks the one with the highest PSNR."
    keys = wrapped(key, SMALL, page - 2 * _MARGIN)
    single = len(names) == 1
    heads = {name: wrapped(name, TEXT, _CELL, bold=True) for name in names}
    side = _IMAGE * _aspect(cells)
    told = max(len(_defense(each)) for of in cells.values() for each in of.values())
    above = told * line_height(SMALL) + 0.03 if single else 0.0
    below = 2 * line_height(SMALL) + 0.04
    row_height = above + side + below + 0.14
    tops = [max(len(heads[name]) for name in block) * line_height(TEXT) + 0.08 for block in blocks]
    first = _MARGIN + len(titles) * line_height(TITLE) + 0.03 + len(keys) * line_height(SMALL) + 0.2
    height = first + sum(tops) + len(blocks) * (len(chosen) * row_height + 0.15) - 0.29 + _MARGIN
    sheet = Sheet(page, height)
    y = sheet.lines(_MARGIN, _MARGIN, titles, size=TITLE, bold=True) + 0.03
    sheet.lines(_MARGIN, y, keys, size=SMALL, colour=FAINT)
    y = first
    for block, head in zip(blocks, tops, strict=True):
        for place, name in enumerate(block):
            x = left + place * (_CELL + _GAP)
            lines = heads[name]
            start = y + head - 0.08 - len(lines) * line_height(TEXT)
            sheet.lines(x, start, lines, size=TEXT, bold=True)
        y += head
        for round in chosen:
            sheet.text(
                _MARGIN,
                y + above + side / 2,
                f"round {round}",
                size=TEXT,
                colour=FAINT,
                align=("left", "center"),
            )
            for place, name in enumerate(block):
                x = left + place * (_CELL + _GAP)
                cell = cells[name].get((round, client, image))
                if single and cell is not None:
                    start = y + above - 0.03 - len(_defense(cell)) * line_height(SMALL)
                    sheet.lines(x, start, _defense(cell), size=SMALL)
                _draw(sheet, x, y + above, side, cell)
            y += row_height
        y += 0.15
    sheet.figure.alt = _in_words(title, cells, chosen, client, image)
    return sheet.figure


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
    """Whether nothing was rebuilt."""
    return math.isnan(cell.row.psnr)


def _first_attacked(cells: Mapping[str, _Cells]) -> int:
    keys = [key for each in cells.values() for key in each]
    if not keys:
        raise NothingToDraw("the server attacked nobody, so there is nothing to show")
    return min(keys)[1]


def _spread(rounds: Sequence[int]) -> list[int]:
    """All rounds, or so many evenly from the first to the last."""
    if len(rounds) <= MOST_ROUNDS:
        return list(rounds)
    steps = (len(rounds) - 1) / (MOST_ROUNDS - 1)
    return [rounds[round(place * steps)] for place in range(MOST_ROUNDS)]


def _aspect(cells: Mapping[str, _Cells]) -> float:
    """Height over width of the images."""
    _, height, width = next(iter(c.truth.shape for each in cells.values() for c in each.values()))
    return float(height / width)


def _defense(cell: _Cell) -> list[str]:
    return wrapped(named(cell.row.defenses), SMALL, _CELL)


def _missing(sheet: Sheet, x: float, y: float, why: str) -> None:
    """Say in the middle of a place why it is empty."""
    sheet.text(x, y, why, size=SMALL, colour=FAINT, align=("center", "center"))


def _draw(sheet: Sheet, x: float, y: float, side: float, cell: _Cell | None) -> None:
    right = x + _IMAGE + _BETWEEN
    if cell is None:
        _missing(sheet, x + _CELL / 2, y + side / 2, "not attacked")
        return
    sheet.image(x, y, _IMAGE, side, cell.truth)
    if _lost(cell):
        _missing(sheet, right + _IMAGE / 2, y + side / 2, "nothing\nrebuilt")
    else:
        colour = defense_colour(cell.row.defenses)
        sheet.image(right, y, _IMAGE, side, cell.rebuilt, edge=colour)
    leaks = cell.row.verdict == "leaks"
    score = "no image" if _lost(cell) else decibels(cell.row.psnr)
    sheet.text(
        x + _CELL / 2,
        y + side + 0.04,
        f"{score} · {cell.row.verdict}",
        size=SMALL,
        bold=leaks,
        colour=INK if leaks else FAINT,
        align=("center", "top"),
    )
    sheet.text(
        x + _CELL / 2,
        y + side + 0.04 + line_height(SMALL),
        f"chance {cell.row.chance_psnr:.0f}",
        size=SMALL,
        colour=FAINT,
        align=("center", "top"),
    )


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
