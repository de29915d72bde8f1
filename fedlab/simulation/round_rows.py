"""The row of one client in one round, for ``clients.csv``."""

import torch

from fedlab.results.rows import ClientRow
from fedlab.server.captures import Capture
from fedlab.server.rounds import Round

_SELECTED = {True: "yes", False: "no", None: ""}


def client_row(done: Round, client: int) -> ClientRow:
    """What one client did in a round, as far as the server could see it.

    Args:
        done: The round.
        client: Partition id of a client that was sampled.
    """
    task, declined = done.tasks[client], done.declined.get(client)
    capture = next((each for each in done.captures if each.clients == (client,)), None)
    return ClientRow(
        round=done.number,
        client=client,
        role=task.role.role,
        defenses=task.defense_names,
        examples=capture.payload.num_examples if capture else None,
        steps=capture.payload.steps if capture else None,
        update_norm=_update_norm(capture, task.lr) if capture else None,
        status=declined.status if declined else "ok" if client in done.accepted else "refused",
        reason=declined.reason if declined else done.refused.get(client, ""),
        selected=_SELECTED[done.selected.get(client)],
    )


def _update_norm(capture: Capture, lr: float) -> float:
    """L2 norm of the change of the weights that a client asks for, in float64."""
    weights = capture.payload.as_weights(capture.global_state, lr=lr)
    change = [(w - capture.global_state[name]).flatten() for name, w in weights.items()]
    return float(torch.linalg.vector_norm(torch.cat(change), dtype=torch.float64))
