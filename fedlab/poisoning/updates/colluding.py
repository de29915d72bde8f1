"""The base classes of update attacks that are made from the honest updates of several clients."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Literal

from fedlab.poisoning.updates.base import UpdateAttack

if TYPE_CHECKING:
    from torch import Tensor

    from fedlab.poisoning.context import Collusion, UpdateContext


class ColludingAttack(UpdateAttack):
    """An update made from honest updates; the client's own training is not sent at all.

    A subclass implements ``combine``, and ``missing_knowledge`` if it needs more than one known
    update. All colluding clients send the same update.
    """

    knows: Literal["colluders", "everyone"] = "colluders"
    """Honest updates that the attacker knows: with ``colluders`` those that the clients with the
    same attack would have sent; with ``everyone`` those of all clients that do not poison, an upper
    bound that no client could reach. They are computed without defenses."""

    @abstractmethod
    def combine(self, known: Tensor, collusion: Collusion) -> Tensor:
        """Return the change that every colluding client sends, float ``[d]``.

        Args:
            known: Honest changes of the global parameters, float ``[m, d]``.
            collusion: Numbers of clients and of colluding clients in the cohort.
        """

    def missing_knowledge(self, *, known: int, clients: int, malicious: int) -> str | None:
        """Reason why the attack cannot be made in a round, with the fix; ``None`` if it can.

        Args:
            known: Number of honest updates that the attacker knows.
            clients: Number of clients in the cohort.
            malicious: Number of clients in the cohort with this attack.
        """
        return None

    def tamper(self, change: Tensor, context: UpdateContext) -> Tensor:
        """Return the combination of the honest changes that the attacker knows."""
        if context.collusion is None:
            raise ValueError("the attack needs to know honest updates")
        return self.combine(context.collusion.honest, context.collusion)


class SpreadAttack(ColludingAttack):
    """An update that is moved as far as the distances between honest updates allow."""

    direction: Literal["mean", "sign", "deviation"] = "deviation"
    """Direction of the move: against the ``mean`` of the known updates, against its ``sign``, or by
    the standard ``deviation`` of every coordinate."""

    def missing_knowledge(self, *, known: int, clients: int, malicious: int) -> str | None:
        """Reason: a single update has no distance to others."""
        if known > 1:
            return None
        fix = (
            "leave more clients honest"
            if self.knows == "everyone"
            else 'let more clients collude, or set knows = "everyone"'
        )
        return (
            f"{self.key} is bounded by the distances between honest updates, but knows only one: "
            f"{fix}"
        )
