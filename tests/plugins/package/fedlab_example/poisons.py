"""A data poison and an update attack."""

from dataclasses import replace

from fedlab.poisoning import DataPoison, UpdateAttack


class Dimming(DataPoison):
    """Darkens every image."""

    factor: float = 0.5
    """Brightness after the poison over brightness before, from 0 to 1."""

    def poison(self, shard, context):
        return replace(shard, images=(shard.images * self.factor).byte())


class Boost(UpdateAttack):
    """Multiplies the update."""

    factor: float = 3.0
    """Factor by which the update is multiplied."""

    def tamper(self, change, context):
        return change * self.factor
