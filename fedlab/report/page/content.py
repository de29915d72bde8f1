"""What stands on a page, before it is set."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fedlab.report.verdicts.run import Verdict


@dataclass(frozen=True)
class Shown:
    """A figure as it stands on the page.

    Attributes:
        anchor: Its id.
        caption: What it shows, and how to read it.
        alt: For readers who do not see it.
        uri: The picture itself.
        width: In pixels.
        height: In pixels.
        legible: Width on a screen, in its pixels, from which on lettering can be read.
    """

    anchor: str
    caption: str
    alt: str
    uri: str
    width: int
    height: int
    legible: int


@dataclass(frozen=True)
class Folded:
    """A table under a line that opens it.

    Attributes:
        title: That line.
        table: The table.
        open: Whether it is open from the start.
    """

    title: str
    table: Markup
    open: bool = False


@dataclass(frozen=True)
class Command:
    """Something to type.

    Attributes:
        what: It does.
        text: One or more lines.
    """

    what: str
    text: str


@dataclass(frozen=True)
class Content:
    """A page, in the order in which it is read.

    Attributes:
        kind: ``Run`` or ``Comparison``.
        name: Of the scenario.
        facts: Under the title, a few words each.
        question: That the experiment asks.
        verdicts: Its answers.
        threat_model: A term and what holds of it, each.
        schedule: Who does what in which round.
        figures: That there is something to draw in.
        tables: In order.
        ledger: Privacy by round and client.
        environment: Names and values.
        scenario: As TOML.
        commands: To do it again.
        meaning: What the results do and do not mean.
    """

    kind: str
    name: str
    facts: Sequence[str]
    question: str
    verdicts: Sequence[Verdict]
    threat_model: Sequence[tuple[str, str]]
    schedule: Markup
    figures: Sequence[Shown]
    tables: Sequence[Folded]
    ledger: Sequence[Folded]
    environment: Markup
    scenario: str
    commands: Sequence[Command]
    meaning: Sequence[str]
