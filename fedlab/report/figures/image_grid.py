"""Grid of one image and its reconstructions, with rounds down and defenses across."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from fedlab.evaluation.leaks import load_leaks
from fedlab.report.figures.attempts import Attempt, attempts_of
from fedlab.report.figures.colours import LINE, defense_colour
from fedlab.report.figures.image_strips import Block, Line, Strip, image_picture
from fedlab.report.figures.sheet import NothingToDraw, Picture, evenly, first_of, styled
from fedlab.report.tables.naming import left_out_note, named, spelled
from fedlab.report.tables.numbers import decibels
from fedlab.results.attacks import UNKNOWN
from fedlab.results.folder import RunFolder

MOST_ROUNDS = 6
"""Largest number of rounds that are drawn by default."""

MOST_ACROSS = 5
"""Largest number of runs side by side; further runs go below."""


_Attacks = dict[tuple[int, int, int], list[Attempt]]
"""Attacks on each image, the best first, by round, client and image."""


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
    attacks = {name: _attacks(run) for name, run in runs.items()}
    keys = [key for each in attacks.values() for key in each]
    if not keys:
        raise NothingToDraw("the server attacked nobody, so there is nothing to show")
    client = min(keys)[1] if client is None else client
    attacked = sorted({r for r, c, _ in keys if c == client})
    chosen = evenly(attacked, MOST_ROUNDS) if rounds is None else rounds
    if not any(r in chosen and c == client for r, c, _ in keys):
        raise NothingToDraw(f"the server did not attack client {client} in rounds {list(chosen)}")
    cells = {
        name: {r: found[0] for r in chosen if (found := each.get((r, client, image)))}
        for name, each in attacks.items()
    }
    names = list(cells)
    single = len(names) == 1
    blocks = [
        _block(
            {name: cells[name].get(round) for name in part},
            f"round {round}",
            heads=row == 0 or single,
            single=single,
        )
        for part in (names[at : at + MOST_ACROSS] for at in range(0, len(names), MOST_ACROSS))
        for row, round in enumerate(chosen)
    ]
    key = "Left: true; right: rebuilt, with PSNR, verdict and chance."
    if any(len(found) > 1 for each in attacks.values() for found in each.values()):
        key += " Of several attacks the one with the highest PSNR."
    title = f"What did the server see of client {client}, image {image}?"
    notes = [key, *_absent(runs, attacked, chosen)]
    picture = image_picture(blocks, title=title, notes=notes)
    words = first_of(f"{name}: {_in_words(list(each.values()))}" for name, each in cells.items())
    picture.alt = " ".join([f"{title} True beside rebuilt images. {words}.", *notes[1:]])
    return picture


def _absent(
    runs: Mapping[str, RunFolder], attacked: Sequence[int], drawn: Sequence[int]
) -> Iterator[str]:
    """Which rounds the wall does not have, and why."""
    if left_out := [each for each in attacked if each not in drawn]:
        yield left_out_note(left_out, len(attacked))
    last = max((row.round for run in runs.values() for row in run.rounds()), default=0)
    if others := set(range(1, last + 1)) - {*attacked}:
        yield f"No attack on this client in round{'s' * (len(others) > 1)} {spelled(others)}."


def _block(cells: Mapping[str, Attempt | None], name: str, *, heads: bool, single: bool) -> Block:
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
        rebuilt = cell.rebuilt if cell and not (cell.lost or cell.missed) else None
        images += [cell.truth if cell else None, rebuilt]
        edges += [LINE, LINE if cell is None else defense_colour(cell.row.defenses)]
        below.append(_scores(cell))
        names.append(f"{head}: {named(cell.row.defenses)}" if single and cell else head)
    return Block([Strip(name, images, edges, below)], names if heads else (), group=2)


def _scores(cell: Attempt | None) -> list[Line]:
    if cell is None:
        return [("not attacked", False)]
    score = decibels(cell.row.graded_psnr)
    if cell.lost or cell.missed:
        score = "nothing rebuilt" if cell.lost else "not caught"
    leaks = cell.row.verdict == "leaks"
    return [(f"{score} · {cell.row.verdict}", leaks), (f"chance {cell.row.chance_psnr:.0f}", False)]


def _attacks(run: RunFolder) -> _Attacks:
    found: _Attacks = defaultdict(list)
    for leak in (leak for file in run.leak_files for leak in load_leaks(file)):
        for cell in attempts_of(leak):
            if cell.row.target != UNKNOWN:
                found[cell.row.round, cell.row.client, cell.row.image].append(cell)
    for cells in found.values():
        cells.sort(key=lambda cell: cell.rank, reverse=True)
    return dict(found)


def _in_words(cells: Sequence[Attempt]) -> str:
    scores = [cell.row.graded_psnr for cell in cells if not cell.lost]
    if not scores:
        return "nothing rebuilt"
    chances = [cell.row.chance_psnr for cell in cells]
    leaking = sum(cell.row.verdict == "leaks" for cell in cells)
    return (
        f"{decibels(min(scores))} to {decibels(max(scores))} beside chance "
        f"{decibels(min(chances))} to {decibels(max(chances))}, "
        f"leaks in {leaking} of {len(cells)} rounds"
    )
