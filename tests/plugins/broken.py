"""Defenses that break their promises, each in another way."""

from fedlab.defenses import Defense


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
