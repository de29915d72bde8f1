"""The amount of local training in a round, which follows from public facts alone."""

from dataclasses import dataclass

from fedlab.scenario.roles import Leaking, Role
from fedlab.scenario.tables import Training


@dataclass(frozen=True)
class Workload:
    """A client's local steps in one round, before any defense.

    Attributes:
        batch_size: Images in a batch.
        steps: Number of batches.
        records: Images in all batches together.
        epochs: Passes over the shard, 1 for a single batch.
        poisson: Whether DP-SGD would draw Poisson batches.
    """

    batch_size: int
    steps: int
    records: int
    epochs: int
    poisson: bool


def workload(role: Role, training: Training, images: int) -> Workload:
    """The local steps of a client with a given number of images."""
    if isinstance(role, Leaking):
        size = min(role.batch_size, images)
        return Workload(size, 1, size, epochs=1, poisson=role.sampling == "poisson")
    size, epochs = min(training.batch_size, images), training.epochs
    return Workload(size, epochs * -(-images // size), epochs * images, epochs, poisson=True)
