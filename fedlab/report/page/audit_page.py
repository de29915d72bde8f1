"""The page of audited updates of another federation: of one, or of a folder of captures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd

from fedlab.core.environment import environment
from fedlab.core.errors import RunFailed
from fedlab.integrations.audit import Audit, Terms
from fedlab.integrations.capture_folder import CaptureFolder
from fedlab.metrics.verdict import MARGIN, UNSCORED
from fedlab.report.figures.audits import audits_figure
from fedlab.report.figures.chance import chance_figure
from fedlab.report.figures.sheet import Picture, first_of
from fedlab.report.page.embedded_figures import embed
from fedlab.report.page.environment import facts_of
from fedlab.report.page.local_paths import without_folders
from fedlab.report.page.output import write_html
from fedlab.report.page.page_content import FoldedTable, Missing, csv_table
from fedlab.report.page.viewer import Viewer, viewer_of_audits
from fedlab.report.tables.numbers import counted
from fedlab.report.templates import paragraphs, render
from fedlab.report.verdicts.audit import audit_verdicts, leakage_of
from fedlab.report.verdicts.run import Verdict
from fedlab.report.verdicts.taxonomy import tested_sentence

_COLUMNS = {
    "update": "update",
    "image": "image",
    "aligned_psnr": "PSNR dB",
    "chance_psnr": "chance dB",
    "psnr": "unaligned PSNR dB",
    "ssim": "SSIM",
    "identification": "identified",
    "label_correct": "label correct",
    "setting": "setting",
    "reasons": "reasons",
    "power": "power",
    "verdict": "verdict",
}
"""Columns of the table of images, with their headers."""

_NOTE = (
    "PSNR: after the best flip, shift and change of brightness, as chance is. Identified: share of "
    "the public images of the pool that are further from the reconstruction than the true image "
    "is. Reasons: why the attack was easier than a real one."
)

_CHECKED = (
    "Nothing in the update contradicts what was stated: optimiser, learning rate, steps and number "
    "of images, mode of BatchNorm, pruning, and with labelled public images the normalisation. "
    "That does not show that it is right."
)


@dataclass(frozen=True)
class AuditContent:
    """Content of a page of audits; ``templates/audit.html`` lays it out.

    Attributes:
        title: Title of the page.
        facts: Sizes and names below the title.
        verdicts: Verdicts on leaks, on what was stated, and on membership.
        threat_model: Terms, each with sentences about it.
        consistency: Updates, each with a finding or the sentence that there is none.
        figures: Functions that draw the figures, by their names in the template.
        tables: Tables of results.
        viewer: Function that gathers the images to step through.
        audits: The audits.
        captures: Number of captured replies, attacked or not; 0 for an update from files.
        kind: Kind of the page.
        missing: What is left out, since files are damaged.
    """

    title: str
    facts: Sequence[str]
    verdicts: Sequence[Verdict]
    threat_model: Sequence[tuple[str, str]]
    consistency: Sequence[tuple[str, str]]
    figures: Mapping[str, Callable[[], Picture]]
    tables: Sequence[FoldedTable]
    viewer: Callable[[], Viewer | None]
    audits: Sequence[Audit]
    captures: int
    kind: str = "Audit"
    missing: Missing = field(default_factory=Missing)


def write_audits(subject: Audit | CaptureFolder, path: Path) -> Path:
    """Write the page of one audited update, or of all in a folder of captures.

    Raises:
        BadInput: If the file cannot be written.
        RunFailed: If files are damaged; the page is written without what they hold.
    """
    content = audit_page(subject)
    page = render(
        "audit.html",
        page=content,
        figures=embed(content.figures, content.missing),
        viewer=content.viewer(),
        environment=facts_of(environment()),
        margin=MARGIN,
    )
    write_html(page, path)
    if lost := content.missing.sentences:
        raise RunFailed(f"{path} lacks what could not be read: {'; '.join(lost)}")
    return path


def audit_page(subject: Audit | CaptureFolder) -> AuditContent:
    """The content of a page: what was attacked so far and, of a folder, what was kept."""
    if isinstance(subject, Audit):
        return _content(without_folders(subject.name), [subject], [], Missing())
    folder, missing = subject, Missing()
    read = [missing.unless_damaged(partial(Audit.load, file)) for file in folder.audit_files]
    audits = [audit for audit in read if audit is not None]
    attacked = {(each.leak.rows[0].round, each.leak.rows[0].client) for each in audits}
    kept = pd.DataFrame(
        [(*each, "yes" if each in attacked else "no") for each in folder.replies],
        columns=["round", "client", "attacked"],
    )
    title = "Captured replies"
    tables = [csv_table(kept, title, file="the folder of the captures", open=not audits)]
    name = folder.path.resolve().name
    return _content(name, audits, tables, missing, len(kept))


def _content(
    title: str,
    audits: Sequence[Audit],
    tables: Sequence[FoldedTable],
    missing: Missing,
    captures: int = 0,
) -> AuditContent:
    leakage = leakage_of(audits)
    scored = any(audit.verdict != UNSCORED for audit in audits)
    networks = dict.fromkeys(audit.terms.network for audit in audits)
    return AuditContent(
        title=title,
        facts=[
            *[counted(captures, "capture")] * bool(captures),
            counted(len(audits), "attacked update"),
            *networks,
        ],
        verdicts=[
            *audit_verdicts(audits, captures),
            *[Verdict("Damaged file", "left out", f"{each}.") for each in missing.sentences],
        ],
        threat_model=list(_threat_model(audits)),
        consistency=[
            (audit.name, sentence)
            for audit in audits
            for sentence in (_sentences(audit.findings) or [_unfounded(audit.terms)])
        ],
        figures={
            **({"images": partial(audits_figure, audits)} if audits else {}),
            **({"chance": partial(chance_figure, leakage, by="defenses")} if scored else {}),
        },
        tables=[*_images(leakage), *_facts(audits), *tables],
        viewer=partial(viewer_of_audits, audits),
        audits=audits,
        captures=captures,
        missing=missing,
    )


def _sentences(findings: Sequence[str]) -> list[str]:
    return [f"{each[:1].upper()}{each[1:].rstrip('.')}." for each in findings]


def _unfounded(terms: Terms) -> str:
    if terms.defenses:
        return "Updates under a stated defense are not checked."
    return _CHECKED


def _threat_model(audits: Sequence[Audit]) -> Iterator[tuple[str, str]]:
    """Terms, each with its sentence; where updates differ, sentences name theirs."""
    if not audits:
        yield "Server", "Honest but curious: it recorded what it sent and received."
    found: dict[str, dict[str, list[str]]] = {}
    for audit in audits:
        for term, sentence in paragraphs(
            "audit_terms.txt",
            terms=audit.terms,
            letter=tested_sentence([audit.terms.letter]),
            numbers=lambda values: ", ".join(f"{value:g}" for value in values),
        ):
            found.setdefault(term, {}).setdefault(sentence, []).append(audit.name)
    for term, sentences in found.items():
        for sentence, names in sentences.items():
            whose = f" ({first_of(names, most=3)})" * (len(sentences) > 1)
            yield term, sentence + whose


def _images(leakage: pd.DataFrame) -> list[FoldedTable]:
    if leakage.empty:
        return []
    rows = leakage[list(_COLUMNS)].rename(columns=_COLUMNS).replace("", None)
    rows = rows.drop(columns=[name for name in rows if rows[name].isna().all()])
    return [csv_table(rows, "Reconstructions, image by image", _NOTE, file="the audits", names=2)]


def _facts(audits: Sequence[Audit]) -> list[FoldedTable]:
    if not audits:
        return []
    rows = [
        {
            "update": audit.name,
            "images": audit.terms.num_images,
            "seconds": audit.leak.rows[0].seconds,
            "SHA-256 of what was sent": audit.terms.sent,
            "of the reply": audit.terms.received,
        }
        for audit in audits
    ]
    return [csv_table(pd.DataFrame(rows), "Audited updates", file="the audits", names=1)]
