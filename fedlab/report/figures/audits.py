"""Figure of audited updates: what was rebuilt, below the true images where they are known."""

from collections.abc import Sequence

from fedlab.integrations.audit import Audit
from fedlab.report.figures.reconstructions import ReconstructionRow, reconstruction_figure
from fedlab.report.figures.sheet import Picture, evenly

MOST_UPDATES = 16
"""Largest number of updates whose images are drawn."""


def audit_figure(audit: Audit) -> Picture:
    """Draw one audited update."""
    return audits_figure([audit])


def audits_figure(audits: Sequence[Audit]) -> Picture:
    """Draw audited updates, one row of images each.

    Raises:
        NothingToDraw: If there is none.
    """
    shown = evenly(audits, MOST_UPDATES)
    note = f"Drawn: {len(shown)} of {len(audits)} updates, evenly spread."
    return reconstruction_figure(
        [_row(audit) for audit in shown],
        title="What does this update give away?"
        if len(audits) == 1
        else "What do these updates give away?",
        note=note * (len(shown) < len(audits)),
    )


def _row(audit: Audit) -> ReconstructionRow:
    rows, leak = audit.leak.rows, audit.leak
    found = leak.reconstruction
    names = ["labels given" if row.known_labels else "label inferred" for row in rows]
    if found is not None and leak.originals.isnan().all():
        hard = found.labels.argmax(1) if found.labels.is_floating_point() else found.labels
        names = [f"label {label}" for label in hard.tolist()]
    return ReconstructionRow(
        label=audit.name,
        truth=leak.originals,
        guess=leak.rebuilt,
        psnr=[row.graded_psnr for row in rows],
        ssim=[row.ssim for row in rows],
        verdict=[row.verdict for row in rows],
        defense=rows[0].defenses,
        chance=[row.chance_psnr for row in rows],
        names=names,
    )
