"""The amount of local training in a round, as numbers that are public."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """A client's local steps in one round.

    Attributes:
        batch_size: Images in a batch.
        steps: Number of batches.
        records: Images in all batches together.
        epochs: Passes over the shard, 1 for a single batch.
        poisson: Whether DP-SGD would draw Poisson batches.
        leaking: Whether the client sends the raw gradient of one batch; false by default.
    """

    batch_size: int
    steps: int
    records: int
    epochs: int
    poisson: bool
    leaking: bool = False

    def over(self, records: int) -> "Workload":
        """Return the local steps on a fixed set of mixtures instead of the images.

        Args:
            records: Number of mixtures in the set, at least 1.
        """
        size = min(self.batch_size, records)
        if self.leaking:
            return Workload(size, 1, size, self.epochs, self.poisson, leaking=True)
        steps = self.epochs * -(-records // size)
        return Workload(size, steps, self.epochs * records, self.epochs, self.poisson)
