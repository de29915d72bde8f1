"""The local training of a client whose update attack trains in another way than it was asked."""

from attacks.knowledge import LocalSGD
from fedlab.poisoning.base import name_in_errors
from fedlab.protocol.task import ClientTask
from fedlab.scenario.roles import Poisoning


def adjust_task(task: ClientTask) -> ClientTask:
    """Return the task with the local training that the client's update attack runs instead.

    Raises:
        ValueError: If the update attack refuses such training.
        PluginFailed: If the update attack raises anything else.
    """
    role = task.role
    if not isinstance(role, Poisoning) or role.update is None:
        return task
    asked = local_sgd(task)
    with name_in_errors(role.update):
        own = role.update.adjust_training(asked)
        if own == asked:
            return task
        training = task.training.model_copy(
            update={
                "epochs": own.epochs,
                "batch_size": own.batch_size,
                "momentum": own.momentum,
                "weight_decay": own.weight_decay,
                "norm_target": own.norm_target,
            }
        )
    return task.model_copy(
        update={"lr": own.lr, "proximal_mu": own.proximal_mu, "training": training}
    )


def local_sgd(task: ClientTask) -> LocalSGD:
    """Return the local training that a task asks for."""
    return LocalSGD(
        lr=task.lr,
        momentum=task.training.momentum,
        weight_decay=task.training.weight_decay,
        norm_target=task.training.norm_target,
        epochs=task.training.epochs,
        batch_size=task.training.batch_size,
        proximal_mu=task.proximal_mu,
    )
