"""Attack trace: the state of an attack after chosen iterations."""

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
    """A watch that stores the progress of one attack.

    By default it stores the state after 1, 2, 4, 8, ... iterations of every restart and at the
    end. The result of an attack is the same, bit for bit, with and without a watch. A trace that is
    used for another attack drops the states of the first.

    Args:
        at: Iterations to store, counted from 1; powers of 2 by default.

    Example:
        >>> trace = AttackTrace()
        >>> [iteration for iteration in range(1, 20) if trace.wants(iteration)]
        [1, 2, 4, 8, 16]
    """

    def __init__(self, at: Collection[int] | None = None) -> None:
        self._at = None if at is None else frozenset(at)
        self._seen: dict[tuple[int, int], Progress] = {}

    def wants(self, iteration: int) -> bool:
        """Return True if the state after this many iterations is to be stored."""
        if self._at is not None:
            return iteration in self._at
        return iteration.bit_count() == 1

    def __call__(self, progress: Progress) -> None:
        """Store the state of a restart."""
        # An earlier iteration or another shape of images means that another attack began.
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
        """Stored states by restart and iteration; images are on the CPU."""
        return tuple(self._seen[key] for key in sorted(self._seen))

    def quality(self, truth: Tensor) -> list[Tensor]:
        """PSNR of the images at every stored state.

        A batch gradient does not contain the order of its batch, so images are paired with the true
        ones as they fit best at the end of their restart.

        Args:
            truth: ``[n, channels, height, width]``, true images, pixels in [0, 1].

        Returns:
            PSNR in dB of each true image, float64 ``[n]``, for each state in ``looks``.

        Raises:
            ValueError: If true and reconstructed images differ in number or shape.
        """
        truth = truth.detach().cpu()
        order: dict[int, Tensor] = {}
        for look in self.looks:  # the last state of a restart decides
            if look.images.shape != truth.shape:
                raise ValueError(
                    f"the true images have shape {list(truth.shape)}, the reconstructed ones "
                    f"{list(look.images.shape)}"
                )
            _, order[look.restart] = match(truth, look.images)
        return [psnr(truth, look.images[order[look.restart]]) for look in self.looks]

    def table(self, truth: Tensor | None = None) -> pd.DataFrame:
        """Restart, iteration, matching cost and PSNR of every stored state.

        Args:
            truth: True images; the column ``psnr`` is the median over them in dB. Without them the
                table has no such column.
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
        return f"AttackTrace({len(self._seen)} states of {restarts} restarts)"
