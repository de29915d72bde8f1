"""Foreign defenses whose claims the ledger must not believe."""

from dataclasses import replace

from fedlab.defenses import Account, Defense
from fedlab.defenses.leakage_gate import LeakageGate
from fedlab.defenses.pipeline import Withheld
from fedlab.privacy.release import PrivacyRelease

CLIENT = Account("client", "replace-one", composition="gaussian", sensitivity=2.0)
NOISE = {"noise_multiplier": 1.0, "sample_rate": 1.0, "steps": 1}


class PerExample(Defense):
    """Claims an epsilon of one image."""

    account = Account("example", "add-or-remove-one")
    keeps_guarantees = True

    def wrap(self, pipeline, context):
        return pipeline.charged(self.release(context, epsilon=1.0))


class OwnGradient(PerExample):
    """Claims an epsilon for a gradient of its own."""

    def wrap(self, pipeline, context):
        def gradient(images, labels):
            pipeline.gradient(images, labels)

        charged = pipeline.charged(self.release(context, epsilon=1.0))
        return replace(charged, gradient=gradient)


class Inspects(Defense):
    """Withholds by looking at the images, and states that all guarantees hold."""

    keeps_guarantees = True

    def wrap(self, pipeline, context):
        return pipeline.inspected(lambda payload: None, observer=lambda batch: None)


class OwnGate(LeakageGate):
    """A gate of one's own."""


class ReplacesCharges(PerExample):
    """Puts its own charge in the place of those of other defenses."""

    def wrap(self, pipeline, context):
        cost = self.release(context, epsilon=0.1)
        charges = tuple((lambda: cost) for _ in pipeline.charges)
        return replace(pipeline, charges=charges).charged(cost)


class FirstParticipation(PerExample):
    """Charges its first participation again and again."""

    def wrap(self, pipeline, context):
        return pipeline.charged(self.entry(context.round, 0, epsilon=1.0))


class NoSensitivity(Defense):
    """Leaves the sensitivity of its account out of its charge."""

    account = CLIENT
    keeps_guarantees = True

    def wrap(self, pipeline, context):
        stated = {"unit": "client", "adjacency": "replace-one"}
        cost = PrivacyRelease(context.round, context.participation, self.name, **NOISE, **stated)
        return pipeline.charged(cost)


class WithholdsEarly(Defense):
    """Withholds where nothing can be withheld."""

    def wrap(self, pipeline, context):
        def release(update):
            raise Withheld("no")

        return pipeline.releasing(release)


class CutsShort(Defense):
    """Sends a part of each tensor."""

    def wrap(self, pipeline, context):
        return pipeline.releasing(lambda update: {n: t[:1] for n, t in update.items()})


class BadFacts(Defense):
    """Fails when it is asked for its facts."""

    def facts(self, history):
        raise KeyError("facts")

    def wrap(self, pipeline, context):
        return pipeline
