"""Secure aggregation at a client: the server only sees its update as part of a sum.

Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning" (CCS 2017).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from fedlab.defenses.base import Defense

if TYPE_CHECKING:
    from fedlab.defenses.pipeline import ClientContext, Pipeline


class SecureAggregation(Defense):
    """Shows the server only the sum over all clients of the round that take part (simulated).

    The client sends its update as ever, and the server adds up the updates of all clients under
    secure aggregation before anything reads them (``fedlab.server.secure_sum``).
    """

    colour: ClassVar[str] = "#555555"
    keeps_guarantees: ClassVar[bool] = True
    sums_updates: ClassVar[bool] = True

    def wrap(self, pipeline: Pipeline, context: ClientContext) -> Pipeline:
        """The pipeline as it is: what the client computes does not change."""
        return pipeline

    @property
    def position(self) -> int:
        """Last: nothing can change an update that is already part of a sum."""
        return 3

    def conflict_before(self, later: Defense) -> str | None:
        """Nothing that changes or inspects the update may follow."""
        if later.changes_update or later.inspects_update:
            return (
                f"{self.name} before {later.name}: nothing can change an update that is already "
                f"part of a sum; list {self.name} last"
            )
        return None
