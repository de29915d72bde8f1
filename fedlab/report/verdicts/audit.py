"""Verdicts on audited updates of another federation."""

from collections.abc import Sequence

import pandas as pd

from attacks.privacy_audit.membership import MembershipResult
from fedlab.integrations.audit import Audit
from fedlab.metrics.verdict import INCONCLUSIVE, SIGNIFICANT, UNSCORED
from fedlab.report.tables.numbers import counted
from fedlab.report.verdicts.run import Verdict, leak_verdicts

FEW = 10
"""Number of images below which a membership test is no more than a hint."""


def audit_verdicts(audits: Sequence[Audit], kept: int = 0) -> list[Verdict]:
    """Verdicts on what updates leak, on what was stated about them, and on membership.

    Args:
        audits: Audited updates; may be empty.
        kept: Number of replies in the folder of the captures, attacked or not.
    """
    return [
        _leak(audits, kept),
        *_doubts(audits),
        *(_members(each.name, each.membership) for each in audits if each.membership),
    ]


def leakage_of(audits: Sequence[Audit]) -> pd.DataFrame:
    """Rows of all audits, with the name of the update in the column ``update``."""
    frames = [audit.table().assign(update=audit.name) for audit in audits]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _leak(audits: Sequence[Audit], kept: int) -> Verdict:
    if not audits:
        sentence = (
            "No captured reply was attacked yet, so nothing is known about what they give away: "
            "attack one with fedlab reconstruct."
        )
        return Verdict("Leak", INCONCLUSIVE, sentence)
    (found,) = leak_verdicts(leakage_of(audits))
    scored = [audit for audit in audits if audit.verdict != UNSCORED]
    if not scored:
        return found._replace(word=UNSCORED)
    more = [found.sentence]
    if blind := sum(not audit.terms.public for audit in scored):
        more.append(
            f"{counted(blind, 'update')} had no public images to compare with, without which "
            "nothing is graded."
        )
    compared = [row for audit in scored if audit.terms.public for row in audit.leak.rows]
    if few := sum(row.alike * SIGNIFICANT < 1 for row in compared):
        more.append(
            f"For {counted(few, 'image')} there are fewer than {round(1 / SIGNIFICANT) - 1} public "
            "images of the class, too few to call a reconstruction recognisable."
        )
    if (left := kept - len(audits)) > 0:
        more.append(f"{left} of {kept} captured replies were not attacked.")
    return found._replace(sentence=" ".join(more))


def _doubts(audits: Sequence[Audit]) -> list[Verdict]:
    wrong = sum(bool(audit.findings) for audit in audits)
    if not wrong:
        return []
    sentence = (
        f"{wrong} of {counted(len(audits), 'update')} {'does' if wrong == 1 else 'do'} not fit "
        "what was stated, or the attack failed: see Consistency. An attack that assumes another "
        "client finds less than it could, so what it did not find is inconclusive."
    )
    return [Verdict("What was stated", "in doubt", sentence)]


def _members(name: str, result: MembershipResult) -> Verdict:
    few = " With so few images this is no more than a hint." * (result.members < FEW)
    return Verdict(
        f"Membership, {name}",
        f"AUC {result.auc:.2f}",
        f"The drop of their loss tells {counted(result.members, 'image')} of the client from "
        f"{result.non_members} public ones with an AUC of {result.auc:.2f}, where 0.5 is chance."
        f"{few}",
    )
