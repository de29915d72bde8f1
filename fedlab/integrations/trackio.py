"""The tracker ``trackio``: Trackio's local database, which ``trackio show`` draws."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import PrivateAttr

from fedlab.core.errors import BadInput
from fedlab.core.trackers import TrackedRun, Tracker
from fedlab.integrations.tracked_run import as_array, require, same_id

if TYPE_CHECKING:  # a scenario that names the tracker is read without PyTorch
    from torch import Tensor


ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")
"""Environment variables by which Trackio sends runs to another machine."""


class Trackio(Tracker):
    """Writes a run to Trackio's database on this machine, or to a Space of Hugging Face."""

    project: str = "fedlab"
    """Project in Trackio."""
    space: str | None = None
    """Space of Hugging Face that the run is sent to, such as ``me/experiments``; nothing leaves the
    machine without it."""

    _run: Any = PrivateAttr(default=None)

    def start(self, run: TrackedRun) -> None:
        """Begin a run of Trackio, or go on with that of a resumed run.

        Raises:
            BadInput: If Trackio is not installed.
        """
        require("trackio", "Trackio")
        if self.space is None and (named := [n for n in ELSEWHERE if os.environ.get(n)]):
            raise BadInput(
                f"{named[0]} is set, by which Trackio would send the pictures of clients away: "
                "unset it, or name a Space by space"
            )
        import trackio  # an extra, which may be absent

        self._run = trackio.init(
            project=self.project,
            name=f"{run.name} {same_id(run, 'trackio')}",
            space_id=self.space,
            config=dict(run.settings),
            resume="allow",
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )

    def log(self, round: int, scalars: Mapping[str, float], images: Mapping[str, Tensor]) -> None:
        """Write the numbers and pictures of a round."""
        import trackio

        pictures = {tag: trackio.Image(as_array(image)) for tag, image in images.items()}
        self._run.log({**scalars, **pictures}, step=round)

    def finish(self) -> None:
        """End the run of Trackio."""
        if self._run is not None:
            self._run.finish()
