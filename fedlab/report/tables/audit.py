"""Table of a privacy audit: what was measured, and what the ledger states."""

from collections.abc import Iterator
from typing import NamedTuple

from fedlab.report.tables.numbers import number
from fedlab.report.tables.table import Column, ReportTable
from fedlab.simulation.auditing import Verdict


class AuditValue(NamedTuple):
    """An epsilon of an audit.

    Attributes:
        name: The method.
        epsilon: Its epsilon.
        kind: ``lower bound``, ``estimate`` or ``upper bound``.
        right: Correct guesses of all, in words; empty for the ledger.
    """

    name: str
    epsilon: float
    kind: str
    right: str


def audit_values(verdict: Verdict) -> Iterator[AuditValue]:
    """Epsilons of an audit, the ledger's last."""
    for name, found, kind in (
        ("guesses, any mechanism", verdict.bound, "lower bound"),
        ("guesses, Gaussian noise", verdict.gaussian, "lower bound"),
        ("ROC curve, Gaussian noise", verdict.estimate, "estimate"),
    ):
        if found is not None:
            right = f"{found.correct} of {found.guesses}"
            yield AuditValue(name, found.epsilon, kind, right)
    yield AuditValue("the client's ledger", verdict.ledger, "upper bound", "")


def audit_table(verdict: Verdict) -> ReportTable:
    """One row for each epsilon of an audit."""
    columns = [
        Column("from"),
        Column("ε", "right"),
        Column("is a"),
        Column("guesses right", "right"),
    ]
    rows = [
        (value.name, number(value.epsilon), value.kind, value.right or "-")
        for value in audit_values(verdict)
    ]
    bound = verdict.bound
    note = (
        f"delta = {bound.delta:g}, {100 * bound.confidence:g} % confidence, {bound.canaries} "
        "canaries. A lower bound above the ledger's epsilon means that the mechanism or its "
        "accounting is broken; one below it proves nothing."
    )
    return ReportTable(f"Audit of client {verdict.client}", columns, rows, note)
