"""A trace: where an attack stood after chosen iterations, to see how it got to its images."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from attacks.reconstruction.watch import Progress
from fedlab.core.views import Viewable, show
from fedlab.metrics.images import match, psnr

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class AttackTrace(Viewable):
    """A watch that keeps what it is shown of one attack.

    It looks after 1, 2, 4, 8, ... iterations of every restart, unless told otherwise, and at the
    end. The images that come out are the same, bit for bit, whether or not an attack is watched.
    Handed to another attack, it forgets the one before.

    Args:
        at: Iterations to look after, counted from 1.

    Example:
        >>> trace = AttackTrace()
        >>> [iteration for iteration in range(1, 20) if trace.wants(iteration)]
        [1, 2, 4, 8, 16]
    """

    def __init__(self, at: Collection[int] | None = None) -> None:
        self._at = None if at is None else frozenset(at)
        self._seen: dict[tuple[int, int], Progress] = {}

    def wants(self, iteration: int) -> bool:
        """Whether to look after so many iterations."""
        if self._at is not None:
            return iteration in self._at
        return iteration.bit_count() == 1

    def __call__(self, progress: Progress) -> None:
        """Keep where a restart stands."""
        # A restart never goes back, and no attack changes the shape of its images.
        if any(
            (restart == progress.restart and iteration >= progress.iteration)
            or look.images.shape != progress.images.shape
            for (restart, iteration), look in self._seen.items()
        ):
            self._seen.clear()
        kept = replace(progress, images=progress.images.detach().cpu())
        self._seen[progress.restart, progress.iteration] = kept

    @property
    def looks(self) -> tuple[Progress, ...]:
        """What was seen, by restart and iteration; images are on the CPU."""
        return tuple(self._seen[key] for key in sorted(self._seen))

    def quality(self, truth: Tensor) -> list[Tensor]:
        """PSNR of the images at every look.

        A batch gradient does not know the order of its batch, so rebuilt images are paired with the
        true ones as they fit at the end of their restart, and stay paired so.

        Args:
            truth: ``[n, channels, height, width]``, the true images, pixels in [0, 1].

        Returns:
            For each look, in the order of ``looks``, dB of each true image, float64 ``[n]``.

        Raises:
            ValueError: If there are not as many true images as rebuilt ones, or of another shape.
        """
        truth = truth.detach().cpu()
        order: dict[int, Tensor] = {}
        for look in self.looks:  # the last of a restart counts
            if look.images.shape != truth.shape:
                raise ValueError(
                    f"the true images have shape {list(truth.shape)}, the rebuilt ones "
                    f"{list(look.images.shape)}"
                )
            _, order[look.restart] = match(truth, look.images)
        return [psnr(truth, look.images[order[look.restart]]) for look in self.looks]

    def table(self, truth: Tensor | None = None) -> pd.DataFrame:
        """A row for each look: restart, iteration, matching cost, and ``psnr`` if truth is given.

        Args:
            truth: The true images; ``psnr`` is the median over them in dB. See ``quality``.
        """
        rows = pd.DataFrame(
            [(look.restart, look.iteration, look.cost) for look in self.looks],
            columns=["restart", "iteration", "cost"],
        )
        if truth is not None:
            rows["psnr"] = [float(torch.quantile(each, 0.5)) for each in self.quality(truth)]
        return rows

    def plot(self, truth: Tensor | None = None, chance: Sequence[float] | None = None) -> "Figure":
        """Draw the matching cost, the PSNR and some images against the iteration.

        Args:
            truth: True images ``[n, channels, height, width]``; without them no PSNR is drawn.
            chance: Chance PSNR of each true image in dB, drawn as a line: ``chance_psnr`` of the
                rows of a ``Leak`` whose target is ``original``.

        Raises:
            ValueError: If the trace recorded nothing yet, or ``truth`` or ``chance`` does not
                match the rebuilt images.
        """
        figure: Figure = show(self, "plot", truth=truth, chance=chance)
        return figure

    def __repr__(self) -> str:
        restarts = len({restart for restart, _ in self._seen})
        return f"Trace({len(self._seen)} looks at {restarts} restarts)"
