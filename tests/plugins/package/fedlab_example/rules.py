"""An aggregation rule."""

import numpy as np

from fedlab.server.changes import ChangeRule


class Median(ChangeRule):
    """Moves the model by the median of every entry of the clients' changes."""

    def __init__(self, *, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def combine(self, changes, examples):
        return self.factor * np.median(changes, axis=0)
