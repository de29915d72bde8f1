"""The card of audited updates of another federation."""

from fedlab.core.environment import environment
from fedlab.metrics.verdict import MARGIN
from fedlab.report.card.layout import Card, Section, items_of, versions_in
from fedlab.report.card.tables import attacks_table, counts_table, groups_of
from fedlab.report.card.untested import untested_of_audits
from fedlab.report.page.audit_page import AuditContent
from fedlab.report.page.environment import facts_of
from fedlab.report.tables.numbers import listed
from fedlab.report.templates import render
from fedlab.report.verdicts.audit import leakage_of
from fedlab.report.verdicts.taxonomy import tested_sentence

_QUESTION = "What could the server of this federation see of its clients' images in their updates?"

_NO_ACCOUNT = (
    "No differential privacy was accounted for, so nothing is certified, whatever noise the "
    "clients may add."
)


def audits_card(page: AuditContent) -> Card:
    """The content of a card of audits.

    Args:
        page: The page about the same audits.
    """
    audits = page.audits
    groups = list(groups_of(leakage_of(audits))) if audits else []
    letters = sorted({each.terms.letter for each in audits})
    seeds = sorted({each.terms.seed for each in audits})
    versions = f"{versions_in(facts_of(environment()))}, where this card was written."
    sections = [
        Section("Question", [_QUESTION]),
        Section("Answer", points=[f"{e.threat}: {e.word}. {e.sentence}" for e in page.verdicts]),
        Section("What leaked", tables=[counts_table(groups), attacks_table(groups)])
        if groups
        else Section("What leaked", ["No image was attacked and scored."]),
        Section("Privacy spent and certified", [_NO_ACCOUNT]),
        Section("What was not tested", points=untested_of_audits(audits, letters, page.captures)),
        Section(
            "Who attacks",
            [tested_sentence(letters)],
            points=[f"{term}: {text}" for term, text in page.threat_model],
        ),
        Section("What the words mean", points=items_of(render("grades.html", margin=MARGIN))),
        Section(
            "How to repeat it",
            [
                f"Seed {listed(list(map(str, seeds)))}; {versions}" if seeds else versions,
                "The page that fedlab report writes has the digests of what was attacked.",
            ],
        ),
    ]
    return Card(page.title, page.kind, page.facts, sections, page.missing)
