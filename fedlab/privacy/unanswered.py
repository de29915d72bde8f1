"""Costs of tasks that clients were given, but whose answers the server does not have.

Such an answer may have been sent: a SuperLink holds what arrives while the server is dead.
"""

from collections.abc import Mapping
from dataclasses import replace

from fedlab.privacy.release import History, next_participation, participations


class Unanswered:
    """What clients may have spent beyond the histories that they have declared."""

    def __init__(self) -> None:
        self._costs: dict[int, History] = {}
        self._asked = 0

    def ask(self, costs: Mapping[int, History]) -> None:
        """Add what the tasks of a round will cost.

        Args:
            costs: Expected entries of each client that is asked, at least one, by partition id.
        """
        for client, cost in costs.items():
            self._costs[client] = (*self._costs.get(client, ()), *cost)
            self._asked = cost[-1].round

    def answer(self, spent: Mapping[int, History]) -> None:
        """Drop what clients have now declared, or what they say they did not spend.

        Args:
            spent: New entries of each client that answered the last question, by partition id. They
                may declare earlier rounds as well, whose replies were lost.
        """
        for client, entries in spent.items():
            told = {self._asked, *(entry.round for entry in entries)}
            left = [cost for cost in self._costs.pop(client, ()) if cost.round not in told]
            if left:
                self._costs[client] = tuple(left)

    def beyond(self, histories: Mapping[int, History]) -> dict[int, History]:
        """Entries that continue the declared histories, by partition id.

        Args:
            histories: Declared privacy history of every client.
        """
        found: dict[int, History] = {}
        for client, costs in self._costs.items():
            first = next_participation(histories.get(client, ()))
            found[client] = tuple(
                replace(entry, participation=number)
                for number, part in enumerate(participations(costs), first)
                for entry in part
            )
        return found


def continued(histories: Mapping[int, History], by: Mapping[int, History]) -> dict[int, History]:
    """Histories with more entries at their end.

    Args:
        histories: Privacy history of every client, by partition id.
        by: Entries to add, by partition id.
    """
    more = {client: (*histories.get(client, ()), *entries) for client, entries in by.items()}
    return {**histories, **more}
