"""The tracker ``mlflow``: MLflow, which by default writes to a database in the run folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import PrivateAttr

from fedlab.core.trackers import TrackedRun, Tracker
from fedlab.integrations.tracked_run import as_array, require, same_id

if TYPE_CHECKING:  # a scenario that names the tracker is read without PyTorch
    from torch import Tensor

_ID = "fedlab.id"
"""Tag by which the run of a resumed one is found again."""


class MLflow(Tracker):
    """Sends a run to MLflow; ``mlflow ui --backend-store-uri sqlite:///RUN/mlflow.db`` shows it."""

    experiment: str = "fedlab"
    """Experiment in MLflow."""
    uri: str | None = None
    """Tracking server such as ``http://host:5000``, or a database; by default ``mlflow.db`` in the
    run folder."""

    _client: Any = PrivateAttr(default=None)
    _run_id: str = PrivateAttr(default="")

    def start(self, run: TrackedRun) -> None:
        """Begin a run of MLflow, or go on with that of a resumed run.

        Raises:
            BadInput: If MLflow is not installed.
        """
        require("mlflow", "MLflow")
        from mlflow import MlflowClient  # an extra, which may be absent

        own = run.folder.resolve()
        client = self._client = MlflowClient(self.uri or f"sqlite:///{own / 'mlflow.db'}")
        found = client.get_experiment_by_name(self.experiment)
        place = None if self.uri else (own / "mlflow").as_uri()
        where = found.experiment_id if found else client.create_experiment(self.experiment, place)
        key = same_id(run, "mlflow")
        before = client.search_runs([where], filter_string=f"tags.`{_ID}` = '{key}'")
        if before:
            self._run_id = before[0].info.run_id
            return
        self._run_id = client.create_run(where, run_name=run.name, tags={_ID: key}).info.run_id
        client.log_dict(self._run_id, dict(run.settings), "scenario.json")

    def log(self, round: int, scalars: Mapping[str, float], images: Mapping[str, Tensor]) -> None:
        """Send the numbers and pictures of a round."""
        for tag, value in scalars.items():
            self._client.log_metric(self._run_id, _name(tag), value, step=round)
        for tag, image in images.items():
            self._client.log_image(self._run_id, as_array(image), key=_name(tag), step=round)

    def finish(self) -> None:
        """Mark the run as finished."""
        if self._client is not None:
            self._client.set_terminated(self._run_id)


def _name(tag: str) -> str:
    """A tag in the letters that MLflow takes."""
    return re.sub(r"[^\w./ -]+", "", tag)
