"""Viewer of a page: a script steps through attacked updates, whose images the page contains.

The content security policy of the page admits this script by its digest, and no other. Figures and
tables of the page show the same without it.
"""

import base64
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup
from PIL import Image
from torch import Tensor

from fedlab.evaluation.leaks import load_leaks
from fedlab.integrations.audit import Audit
from fedlab.report.figures.attempts import Attempt, attempts_of, by_client, telling
from fedlab.report.figures.colours import defense_colour
from fedlab.report.figures.image_strips import SMOOTHED_FROM
from fedlab.report.tables.numbers import decibels, plain
from fedlab.report.templates import render
from fedlab.results.attacks import MALICIOUS, UNKNOWN, scored_images
from fedlab.results.folder import RunFolder

MOST_UPDATES = 120
"""Largest number of attacked updates in a viewer."""

MOST_SHOWN = 8
"""Largest number of attempts on the images of an update that are all shown."""

MOST_CHARACTERS = 400_000
"""Number of characters of encoded images from which on no further update is added."""


class _Update(NamedTuple):
    """An attacked update.

    Attributes:
        round: Round number, counted from 1.
        run: Place of its run among the runs.
        client: Partition id.
    """

    round: int
    run: int
    client: int


@dataclass(frozen=True)
class Viewer:
    """Images and scores of attacked updates.

    Attributes:
        data: What ``templates/viewer.js`` reads. ``axes`` are what it steps through, each with its
            ``name`` and ``values``. ``steps`` are the updates, each with ``at``, the place of its
            value on each axis, and ``images`` with their scores. ``pictures`` are PNG files in
            Base64, each once; an image has the name and the place of each of its pictures.
        note: Which updates and images these are.
    """

    data: Mapping[str, Any]
    note: str

    @property
    def json(self) -> Markup:
        """The data as JSON in which no tag begins or ends."""
        text = json.dumps(self.data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return Markup(text.replace("<", "\\u003c"))

    @property
    def script(self) -> Markup:
        """The script that shows the data."""
        return render("viewer.js")

    @property
    def policy(self) -> str:
        """Source expression of a content security policy that admits the script."""
        digest = hashlib.sha256(self.script.encode()).digest()
        return f"'sha256-{base64.b64encode(digest).decode()}'"


def viewer_of(
    runs: Mapping[str, RunFolder], *, axis: str = "defense", about: str = ""
) -> Viewer | None:
    """Gather the images of attacked updates, up to ``MOST_UPDATES`` and ``MOST_CHARACTERS``.

    Args:
        runs: Runs by their names.
        axis: What tells the runs apart; a single run is not stepped through.
        about: Sentence about the runs, for the note.

    Returns:
        The viewer; None if there are no images of attacked updates.

    Raises:
        BadInput: If a file of a run is damaged.
    """
    names, wanted = list(runs), _by_importance(list(runs.values()))
    attempts_in = lru_cache(maxsize=1)(_attempts)  # of one file, since images may be large
    gathered = _Gathered()
    for update in wanted[:MOST_UPDATES]:
        if gathered.is_full:
            break
        file = runs[names[update.run]].leaks(update.round)
        gathered.add(update, attempts_in(file).get(update.client, []))
    each = f" of each {axis}" * (len(runs) > 1)
    left_out = (
        f"Here are {len(gathered.images)} of {len(wanted)} attacked updates: those with the best, "
        f"the median and the worst image{each} by PSNR, and the first rounds; all: folder "
        "reconstructions." * (len(gathered.images) < len(wanted))
    )
    return gathered.viewer(names, axis=axis, notes=[about, left_out])


def viewer_of_audits(audits: Sequence[Audit]) -> Viewer | None:
    """Gather the images of audited updates, as ``viewer_of`` does those of runs."""
    gathered = _Gathered()
    for audit in audits[:MOST_UPDATES]:
        if gathered.is_full:
            break
        first = audit.leak.rows[0]
        gathered.add(_Update(first.round, 0, first.client), attempts_of(audit.leak))
    note = f"Here are the first {len(gathered.images)} of {len(audits)} attacked updates."
    return gathered.viewer([""], notes=[note * (len(gathered.images) < len(audits))])


class _Gathered:
    """Images of updates, and their pictures, each once.

    Attributes:
        images: Images of each update with their scores.
    """

    def __init__(self) -> None:
        self.images: dict[_Update, list[dict[str, Any]]] = {}
        self._pictures: dict[str, int] = {}
        self._sides, self._shortened = [0], False

    @property
    def is_full(self) -> bool:
        """True if there is no room for a further update."""
        return sum(map(len, self._pictures)) > MOST_CHARACTERS

    def add(self, update: _Update, attempts: Sequence[Attempt]) -> None:
        """Add the attempts on the images of an update, or those that stand for many."""
        shown = attempts if len(attempts) <= MOST_SHOWN else telling(attempts)
        self._shortened |= len(shown) < len(attempts)
        self._sides += [max(each.truth.shape) for each in shown]
        if shown:
            self.images[update] = [_image(each, self._pictures) for each in shown]

    def viewer(
        self, runs: Sequence[str], *, axis: str = "defense", notes: Sequence[str]
    ) -> Viewer | None:
        """The viewer of these images; None if there are none.

        Args:
            runs: Names of the runs; a single one is not stepped through.
            axis: What tells the runs apart.
            notes: Sentences about the updates; empty ones are left out.
        """
        if not self.images:
            return None
        axes = {
            "round": {update.round: str(update.round) for update in sorted(self.images)},
            "client": {each: str(each) for each in sorted({e.client for e in self.images})},
            "run": {run: runs[run] for run in sorted({each.run for each in self.images})},
        }
        if len(runs) == 1:
            del axes["run"]
        places = {name: list(values) for name, values in axes.items()}
        short = (
            f"Of an update with more than {MOST_SHOWN} attempts on images: the best, the median "
            "and the worst image, each under the attack that did best on it." * self._shortened
        )
        return Viewer(
            {
                "axes": [
                    {"name": axis if name == "run" else name, "values": list(values.values())}
                    for name, values in axes.items()
                ],
                "steps": [
                    {
                        "at": [each.index(getattr(update, name)) for name, each in places.items()],
                        "images": self.images[update],
                    }
                    for update in sorted(self.images)
                ],
                "pictures": list(self._pictures),
                "pixelated": max(self._sides) <= SMOOTHED_FROM,
            },
            " ".join(filter(None, [*notes, short])),
        )


def _by_importance(runs: Sequence[RunFolder]) -> list[_Update]:
    """Updates with the best, the median and the worst image of each run, then all by round."""
    first, every = [], []
    for place, run in enumerate(runs):
        table = run.table("leakage")
        # Images without a score, of which only the client has the original, are shown as well.
        rows = scored_images(table.assign(target=table["target"].replace(UNKNOWN, "original")))
        rows = rows[rows["skipped"] == ""].sort_values("psnr", ascending=False, kind="stable")
        kept = {number for number in rows["round"].unique() if run.leaks(number).is_file()}
        updates = [
            _Update(int(round), place, int(client))
            for round, client in zip(rows["round"], rows["client"], strict=True)
            if round in kept
        ]
        every += updates
        if updates:
            first += [updates[at] for at in (0, len(updates) // 2, -1)]
    return list(dict.fromkeys([*first, *sorted(every)]))


def _attempts(file: Path) -> dict[int, list[Attempt]]:
    """Attempts of a round by client."""
    return by_client(each for leak in load_leaks(file) for each in attempts_of(leak))


def _image(attempt: Attempt, pictures: dict[str, int]) -> dict[str, Any]:
    """Scores and pictures of an image; new pictures are added to those of the viewer."""
    row = attempt.row
    shown = {"true": attempt.truth, "seen": attempt.seen, "rebuilt": attempt.rebuilt}
    return {
        "image": row.image,
        "place": attempt.name,
        "attack": f"{row.preset}, labels {'known' if row.known_labels else 'inferred'}"
        + MALICIOUS * (row.threat == "malicious"),
        "defense": row.defenses,
        "colour": defense_colour(row.defenses),
        "psnr": decibels(row.graded_psnr),
        "chance": decibels(row.chance_psnr),
        "ssim": plain(row.ssim),
        "verdict": row.verdict,
        "pictures": [
            [name, pictures.setdefault(_png(image), len(pictures))]
            for name, image in shown.items()
            if image is not None and not image.isnan().all()
        ],
    }


def _png(image: Tensor) -> str:
    """Pixels ``[1 or 3, height, width]`` in [0, 1] as a PNG file in Base64."""
    pixels = image.detach().cpu().float().clamp(0, 1).nan_to_num(nan=0.5)
    levels = (pixels * 255).round().byte().permute(1, 2, 0).numpy()
    content = io.BytesIO()
    Image.fromarray(levels if levels.shape[2] == 3 else levels[..., 0]).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()
