"""Check of the privacy history that a client declares against all that the server knows.

A client may keep its history for itself, lose it, or lie about it. The server believes what
continues its own record and agrees with the tasks that it gave.
"""

from collections.abc import Callable

from flwr.app import RecordDict

from fedlab.core.errors import BadInput
from fedlab.core.plugins import PluginFailed
from fedlab.privacy.release import History, next_participation, participations
from fedlab.protocol.declared_cost import PublicSizes, declared_problem
from fedlab.protocol.reply import Refused, read_abstention, read_history
from fedlab.protocol.task import ClientTask

MOST_LOST = 100
"""Largest number of earlier participations whose replies may have been lost before this one."""


def checked_history(
    content: RecordDict,
    known: History,
    task: ClientTask,
    *,
    task_in: Callable[[int], ClientTask],
    sizes: PublicSizes | None,
    shares_buffers: bool,
    unanswered: History = (),
) -> History:
    """Read the history that a reply declares, and hold every new entry against its task.

    Args:
        content: Records of the reply.
        known: History of the client that the server has.
        task: Task of the client in this round.
        task_in: Returns the client's task in an earlier round, whose reply was lost.
        sizes: Public numbers about the clients' images, if the server knows them.
        shares_buffers: True if clients are asked for BatchNorm statistics.
        unanswered: Costs of earlier tasks as the server expects them, which a client repeats that
            has lost its own history.

    Returns:
        The declared history, of which the known one is the beginning.

    Raises:
        Refused: If the history does not continue the known one, or is not the cost of the tasks.
    """
    abstention = read_abstention(content)
    history = read_history(content, known)
    if history[: len(known)] != known:
        raise Refused("it tells its earlier accountant history in another way than before")
    new = participations(history[len(known) :])
    # Over its budget a client computes nothing, so this round costs it nothing.
    spends = abstention is None or abstention.status != "budget"
    if spends and not (new and new[-1][0].round == task.round):
        raise Refused("its accountant history has no entry for this round")
    if len(new) > MOST_LOST:
        raise Refused(f"its accountant history has {len(new)} new participations")
    before, earliest = known, known[-1].round if known else 1
    expected = participations(unanswered)
    for part in new:
        last = part is new[-1] and spends
        if part in expected and not last:
            before = (*before, *part)
            continue
        rounds = {entry.round for entry in part}
        (round, *others) = sorted(rounds)
        if others or not earliest <= round <= task.round:
            raise Refused(f"its accountant history has an entry for round {max(rounds)}")
        if part[0].participation != next_participation(before):
            raise Refused("the participations in its accountant history are not counted one by one")
        problem = _problem(
            task if round == task.round else task_in(round),
            part,
            before,
            sizes=sizes,
            buffers=shares_buffers and (not last or abstention is None),
        )
        if problem:
            raise Refused(f"what it says that round {round} cost is not true: {problem}")
        before, earliest = (*before, *part), round
    return history


def _problem(
    task: ClientTask, part: History, before: History, *, sizes: PublicSizes | None, buffers: bool
) -> str | None:
    try:
        return declared_problem(task, part, before, sizes=sizes, buffers=buffers)
    except (BadInput, PluginFailed, ValueError) as error:  # a plug-in cannot say what it costs
        return str(error)
