"""The tracker ``tensorboard``: event files that TensorBoard shows, written while a run goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import PrivateAttr

from fedlab.core.trackers import TrackedRun, Tracker
from fedlab.integrations.tracked_run import require

if TYPE_CHECKING:  # a scenario that names the tracker is read without PyTorch
    from torch import Tensor
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard(Tracker):
    """Writes TensorBoard event files; ``tensorboard --logdir FOLDER`` shows them."""

    folder: str = "tensorboard"
    """Folder of the event files, relative to the run folder."""

    _writer: SummaryWriter | None = PrivateAttr(default=None)

    def start(self, run: TrackedRun) -> None:
        """Open an event file; events of rounds that a resumed run repeats are hidden.

        Raises:
            BadInput: If TensorBoard is not installed.
        """
        require("tensorboard", "TensorBoard")
        from torch.utils.tensorboard import SummaryWriter  # an extra, which may be absent

        self._writer = SummaryWriter(
            str(run.folder / self.folder), purge_step=run.done + 1 if run.done else None
        )

    def log(self, round: int, scalars: Mapping[str, float], images: Mapping[str, Tensor]) -> None:
        """Write the numbers and pictures of a round."""
        if self._writer is None:
            raise RuntimeError("the event file is not open: call start first")
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, round)
        for tag, image in images.items():
            self._writer.add_image(tag, image, round)
        self._writer.flush()

    def finish(self) -> None:
        """Close the event file."""
        if self._writer is not None:
            self._writer.close()
