"""The tracker ``wandb``: Weights & Biases, which by default writes to the run folder alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import PrivateAttr

from fedlab.core.trackers import TrackedRun, Tracker
from fedlab.integrations.tracked_run import as_array, require, same_id

if TYPE_CHECKING:  # a scenario that names the tracker is read without PyTorch
    from torch import Tensor


class WandB(Tracker):
    """Sends a run to Weights & Biases; offline, ``wandb sync`` of the run folder uploads it."""

    project: str = "fedlab"
    """Project at Weights & Biases."""
    entity: str | None = None
    """User or team; that of the login by default."""
    mode: Literal["offline", "online"] = "offline"
    """``online`` uploads while the run goes on, to the account of ``wandb login``; ``offline``
    writes to the folder ``wandb`` of the run alone."""

    _run: Any = PrivateAttr(default=None)

    def start(self, run: TrackedRun) -> None:
        """Begin a run of Weights & Biases, or go on with that of a resumed run.

        Raises:
            BadInput: If Weights & Biases is not installed.
        """
        require("wandb", "Weights & Biases")
        import wandb  # an extra, which may be absent

        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            name=run.name,
            id=same_id(run, "wandb"),
            resume="allow",
            config=dict(run.settings),
            dir=run.folder,
            mode=self.mode,
            settings=wandb.Settings(  # numbers and pictures alone, and nothing about the machine
                console="off",
                silent=True,
                disable_code=True,
                disable_git=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
            ),
        )

    def log(self, round: int, scalars: Mapping[str, float], images: Mapping[str, Tensor]) -> None:
        """Send the numbers and pictures of a round."""
        import wandb

        pictures = {tag: wandb.Image(as_array(image)) for tag, image in images.items()}
        self._run.log({**scalars, **pictures}, step=round)

    def finish(self) -> None:
        """End the run of Weights & Biases."""
        if self._run is not None:
            self._run.finish()
