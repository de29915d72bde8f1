"""The amount of local training in a round, which follows from public facts alone."""

from fedlab.defenses.workload import Workload
from fedlab.scenario.roles import Leaking, Role
from fedlab.scenario.tables import Training


def workload(role: Role, training: Training, images: int) -> Workload:
    """The local steps of a client with a given number of images, before any defense."""
    if isinstance(role, Leaking):
        size = min(role.batch_size, images)
        poisson = role.sampling == "poisson"
        return Workload(size, 1, size, epochs=1, poisson=poisson, leaking=True)
    size, epochs = min(training.batch_size, images), training.epochs
    return Workload(size, epochs * -(-images // size), epochs * images, epochs, poisson=True)
