"""Plug-ins that break their promises, each in another way."""

from fedlab.core.trackers import Tracker
from fedlab.defenses import Account, Defense
from fedlab.metrics.metric import metric
from fedlab.poisoning import DataPoison, UpdateAttack


class Silent(Defense):
    """Lacks the method that every defense has to have."""


class Raising(Defense):
    """Fails in the middle of a round."""

    def wrap(self, pipeline, context):
        def release(update):
            raise KeyError("weights")

        return pipeline.releasing(release)


class Empty(Defense):
    """Returns nothing."""

    def wrap(self, pipeline, context):
        return None


class Claiming(Defense):
    """Charges an epsilon but states no account."""

    def wrap(self, pipeline, context):
        return pipeline.charged(self.release(context, epsilon=1.0))


class Uncharged(Defense):
    """States an account and never charges it."""

    account = Account(unit="client", adjacency="replace-one")

    def wrap(self, pipeline, context):
        return pipeline


class Unpoisoned(DataPoison):
    """Fails on every image."""

    def poison(self, shard, context):
        raise KeyError("weights")


class Untampered(UpdateAttack):
    """Fails on every update."""

    def tamper(self, change, context):
        raise KeyError("weights")


class Unlogged(Tracker):
    """Fails in the first round."""

    def log(self, round, scalars, images):
        raise KeyError("weights")


def fail(*arguments, **options):
    """A function of any kind that fails."""
    raise KeyError("weights")


failing_metric = metric("failing")(fail)


@metric("psnr")
def own_psnr(truth, rebuilt):
    """Has the name of a built-in column."""
    return (truth - rebuilt).flatten(1).mean(1)
