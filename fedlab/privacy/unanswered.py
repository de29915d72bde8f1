"""Costs of tasks that clients were given, but whose answers the server does not have.

Such an answer may have been sent: a SuperLink holds what arrives while the server is dead.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from fedlab.privacy.release import History, next_participation, participations


class Unanswered:
    """What clients may have spent beyond the histories that they have declared."""

    def __init__(self) -> None:
        self._questions: dict[int, list[History]] = {}

    def ask(self, costs: Mapping[int, History]) -> None:
        """Add what the tasks of a round will cost.

        Args:
            costs: Expected entries of each client that is asked, at least one, by partition id.
        """
        for client, cost in costs.items():
            self._questions.setdefault(client, []).append(cost)

    def answer(self, spent: Mapping[int, History]) -> None:
        """Drop the last question to each client, and earlier ones whose costs it declares as well.

        Args:
            spent: New entries of each client that has answered, by partition id; none for a round
                that cost it nothing.
        """
        for client, entries in spent.items():
            if not (questions := self._questions.pop(client, [])):
                continue
            declared = Counter(part[0].round for part in participations(entries))
            *earlier, last = questions
            declared[last[0].round] -= 1
            left = []
            for question in reversed(earlier):
                declared[question[0].round] -= 1
                if declared[question[0].round] < 0:
                    left.append(question)
            if left:
                self._questions[client] = left[::-1]

    def beyond(self, histories: Mapping[int, History]) -> dict[int, History]:
        """Entries that continue the declared histories, by partition id.

        Args:
            histories: Declared privacy history of every client.
        """
        found: dict[int, History] = {}
        for client, questions in self._questions.items():
            first = next_participation(histories.get(client, ()))
            found[client] = tuple(
                replace(entry, participation=number)
                for number, cost in enumerate(questions, first)
                for entry in cost
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
