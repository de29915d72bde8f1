"""A run in a notebook: its rounds so far, and where it is."""

from markupsafe import Markup

from fedlab.privacy.ledger import Ledger
from fedlab.report.html.tables import rich_table
from fedlab.report.tables.numbers import plain
from fedlab.report.tables.rounds import rounds_table
from fedlab.results.folder import RunFolder
from fedlab.simulation.analysis import Analysis


def run_html(run: RunFolder) -> str:
    """A run that was opened from its folder."""
    return _html("Run", run, run.ledger(), run.scenario.rounds)


def federation_html(federation: Analysis) -> str:
    """A federation between two rounds."""
    return _html("Federation", federation.folder, federation.ledger, federation.scenario.rounds)


def _html(kind: str, run: RunFolder, ledger: Ledger, rounds: int) -> str:
    done = run.rounds()
    last = f", accuracy {plain(done[-1].accuracy, digits=3)}" if done else ""
    return str(
        Markup(
            "<div><p><strong>{}: {}</strong><br>round {} of {}{}<br><code>{}</code></p>{}</div>"
        ).format(
            kind,
            run.scenario.name,
            done[-1].round if done else 0,
            rounds,
            last,
            run.path,
            rich_table(rounds_table(run, ledger)) if done else "",
        )
    )
