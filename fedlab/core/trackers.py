"""Experiment trackers: plug-ins that receive the numbers and pictures of a run round by round."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import PlainValidator, SerializeAsAny

from fedlab.core.plugins import Plugin, Registry, check_subclass

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TrackedRun:
    """The run that a tracker is about to follow.

    Attributes:
        name: Name of the scenario.
        settings: All settings of the scenario, as plain values.
        folder: Folder in which a tracker may write files of its own.
        done: Number of rounds that are over; above 0 when a run is resumed.
    """

    name: str
    settings: Mapping[str, Any]
    folder: Path
    done: int = 0


class Tracker(Plugin, ABC):
    """Sends the numbers and pictures of a run to an experiment tracker, while it runs.

    A subclass declares its settings as fields and implements ``log``; state goes into attributes
    whose names begin with an underscore. The run folder stays complete without any tracker, and a
    tracker that raises costs a warning with its name, never the run. A tracker must not need a
    network unless its settings ask for one.

    Example:
        >>> class Printed(Tracker):
        ...     "Prints the accuracy of every round."
        ...     digits: int = 3
        ...
        ...     def log(self, round, scalars, images):
        ...         print(round, f"{scalars['model/accuracy']:.{self.digits}f}")
        >>> Printed(digits=1).log(1, {"model/accuracy": 0.25}, {})
        1 0.2
    """

    registry: ClassVar[Registry[type[Tracker]]]

    name: str = ""
    """Name of the tracker: a built-in one, an entry point, or ``package.module:Name``."""

    def start(self, run: TrackedRun) -> None:
        """Called once before the first round.

        Args:
            run: The run.

        Raises:
            BadInput: If the tracker cannot work here; the run is stopped before its first round.
        """

    @abstractmethod
    def log(self, round: int, scalars: Mapping[str, float], images: Mapping[str, Tensor]) -> None:
        """Called after every round, and for round 0 with the scores of the untrained network.

        Args:
            round: Round number.
            scalars: Numbers by tag: ``model/accuracy``, ``model/loss``, ``model/worst recall``,
                ``model/attack success rate``, ``model/attack success by chance``,
                ``PSNR/client 0, ATTACK`` and ``chance/client 0, ATTACK`` (both the median over
                images, in dB), and ``epsilon/client 0`` (infinite once the client took part
                without protection). ATTACK is such as ``fast, labels known``.
            images: Pictures by tag ``reconstruction/client 0, ATTACK``, with true images above
                reconstructed ones: float ``[channels, 2 * height, n * width]`` in [0, 1].
        """

    def finish(self) -> None:
        """Called once after the last round."""


TRACKERS: Registry[type[Tracker]] = Registry(
    "tracker",
    group="fedlab.trackers",
    builtin={
        "tensorboard": "fedlab.integrations.tensorboard:TensorBoard",
        "wandb": "fedlab.integrations.wandb:WandB",
        "mlflow": "fedlab.integrations.mlflow:MLflow",
        "trackio": "fedlab.integrations.trackio:Trackio",
    },
    check=check_subclass(Tracker),
)
Tracker.registry = TRACKERS

AnyTracker = Annotated[SerializeAsAny[Tracker], PlainValidator(Tracker.parse_table)]
"""A scenario's entry for a tracker: its name alone, or a table with its settings."""
