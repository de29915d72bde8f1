"""Attempts to rebuild an image, and the choice of those that stand for many."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fedlab.evaluation.leaks import Leak
from fedlab.metrics.verdict import INCONCLUSIVE, NOT_SHOWN
from fedlab.results.attacks import UNKNOWN
from fedlab.results.rows import LeakageRow
from fedlab.server.captures import READ_OUT

MOST_TELLING = 3
"""Number of images that stand for many."""


class Attempt(NamedTuple):
    """One attack on one image of a client in one round.

    Attributes:
        row: Scores.
        truth: True image ``[1 or 3, height, width]``, pixels in [0, 1]; NaN where only the client
            has it.
        rebuilt: Rebuilt image, the same shape; NaN where nothing was rebuilt, and where a read-out
            missed the image.
        seen: What the network of a mixing client saw, the same shape.
        name: Place among the client's images, such as ``best of 8``, or empty.
    """

    row: LeakageRow
    truth: Tensor
    rebuilt: Tensor
    seen: Tensor | None = None
    name: str = ""

    @property
    def lost(self) -> bool:
        """True if nothing was rebuilt of the image, or there is no true image to compare with."""
        return math.isnan(self.row.graded_psnr)

    @property
    def missed(self) -> bool:
        """True if the attack read out other images, of which one was compared with this one."""
        return not self.lost and bool(self.rebuilt.isnan().all())

    @property
    def rank(self) -> float:
        """PSNR in dB to sort by; where nothing was rebuilt it is below all others."""
        return -math.inf if self.lost else self.row.graded_psnr


def attempts_of(leak: Leak) -> list[Attempt]:
    """The attempts of a leak, one for each of its images, in the client's order.

    An image that a malicious server's read-out missed is compared with one that is left over,
    which is mostly a copy or a mixture of others. That would look like a reconstruction of it.
    """
    rows = [row for row in leak.rows if row.target in ("original", UNKNOWN)]
    seen = [None] * len(rows) if leak.mixed is None else leak.mixed
    rebuilt = leak.rebuilt
    if rows and rows[0].preset in READ_OUT:
        nearest = torch.cdist(rebuilt.flatten(1), leak.originals.flatten(1)).argmin(1)
        missed = [
            row.verdict in (NOT_SHOWN, INCONCLUSIVE) and place != near
            for place, (row, near) in enumerate(zip(rows, nearest.tolist(), strict=True))
        ]
        rebuilt = rebuilt.masked_fill(torch.tensor(missed).view(-1, 1, 1, 1), math.nan)
    return list(map(Attempt, rows, leak.originals, rebuilt, seen))


def telling(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Choose attempts that stand for all of one client in one round.

    Args:
        attempts: At least one attempt.

    Returns:
        The best, the median and the worst image by PSNR, with ``name``, each under the attack that
        did best on it. Of a single image, and where nothing has a score, the first three attempts.
    """
    images: dict[int, list[Attempt]] = defaultdict(list)
    for each in attempts:
        images[each.row.image].append(each)
    if len(images) == 1 or all(each.lost for each in attempts):
        return list(attempts[:MOST_TELLING])
    best = [max(tried, key=lambda each: each.rank) for tried in images.values()]
    best.sort(key=lambda each: each.rank, reverse=True)
    places = {"best": 0, "median": len(best) // 2, "worst": len(best) - 1}
    if len(best) < MOST_TELLING:
        del places["median"]
    return [best[place]._replace(name=f"{name} of {len(best)}") for name, place in places.items()]


def by_client(attempts: Iterable[Attempt]) -> dict[int, list[Attempt]]:
    """Attempts of one round by client, in their order."""
    found: dict[int, list[Attempt]] = defaultdict(list)
    for each in attempts:
        found[each.row.client].append(each)
    return dict(found)
