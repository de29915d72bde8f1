"""The command ``fedlab audit``."""

from fedlab.cli.options import RunPath
from fedlab.core.consoles import console
from fedlab.core.errors import RunFailed


def audit(folder: RunPath) -> None:
    """Print the lower bounds on a client's epsilon that the canaries of a run give.

    The exit code is 1 if the bound contradicts the privacy ledger.
    """
    from fedlab.report.tables.audit import audit_table
    from fedlab.results.folder import RunFolder
    from fedlab.simulation.auditing import verdict_of

    verdict = verdict_of(RunFolder.open(folder))
    if not verdict.holds:
        raise RunFailed(str(verdict))
    console.print(str(verdict), soft_wrap=True)
    console.print(audit_table(verdict))
