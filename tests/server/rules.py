"""Aggregation rules as other people write them."""

import numpy as np
from flwr.serverapp.strategy import FedAvg

from fedlab.server.changes import ChangeRule, Combined


class Median(ChangeRule):
    """The median of every entry, shrunk by a factor."""

    def __init__(self, *, factor: float = 1.0, **settings):
        super().__init__(**settings)
        self.factor = factor

    def combine(self, changes, examples):
        return self.factor * np.median(changes, axis=0)

    def cohort_problem(self, cohort):
        return f"needs 3 clients, but a round has {cohort}" if cohort < 3 else None


class First(ChangeRule):
    """The change of the first client."""

    selects = True

    def combine(self, changes, examples):
        return Combined(changes[0], [0])


class TowardsRoot(ChangeRule):
    """The server's own change, whatever clients send."""

    needs_root = True

    def combine(self, changes, examples):
        return self.root_change


class Mean(FedAvg):
    """Flower's weighted mean under another name."""

    linear = True

    def __init__(self):
        super().__init__()


class Rootless(FedAvg):
    needs_root = True


class Raising(ChangeRule):
    def combine(self, changes, examples):
        raise KeyError("weights")


class Short(ChangeRule):
    def combine(self, changes, examples):
        return changes[0][:2]


class Silent(FedAvg):
    def aggregate_train(self, server_round, replies):
        return None, None


class Renaming(FedAvg):
    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, replies)
        arrays["more"] = arrays.pop("bias")
        return arrays, metrics


class Unprepared(FedAvg):
    def configure_train(self, server_round, arrays, config, grid):
        return []
