"""Running a scenario on a SuperLink and the SuperNodes that are connected to it."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from fedlab.core.errors import BadInput
from fedlab.core.signals import raise_on_signals
from fedlab.engine.flower_command import (
    flwr_run,
    judge_run,
    prepare_app,
    write_connection,
)
from fedlab.scenario.scenario import Scenario

NO_ANSWER = "Connection to the SuperLink is unavailable"
"""Text of Flower whether the address, the certificate or the network is wrong."""


def run_on_superlink(
    scenario: Scenario,
    folder: Path,
    *,
    address: str,
    certificate: Path | None,
    on_line: Callable[[str], None],
    resume: bool = False,
) -> None:
    """Run a scenario whose clients are SuperNodes with their own images.

    The ServerApp runs on the machine of the SuperLink, so this has to be called there too.

    Args:
        scenario: The experiment, with ``engine.name`` set to ``deployment``.
        folder: Folder of the run: a new one, or that of the run to resume.
        address: Host and port of the SuperLink.
        certificate: Certificate of the authority that signed the SuperLink's; ``None`` without TLS.
        on_line: Called with every line that the run prints about a round.
        resume: True to continue the run in the folder.

    Raises:
        BadInput: If the scenario is not for a deployment, the certificate does not exist, or the
            run was refused.
        RunFailed: If the run did not reach its last round.
    """
    if not scenario.engine.deployed:
        raise BadInput(
            f'engine.name is "{scenario.engine.name}": set engine.name = "deployment" in the '
            "scenario, on the server and on every client"
        )
    if certificate is not None and not certificate.is_file():
        raise BadInput(f"there is no certificate {certificate}")
    connection: dict[str, str | bool] = {"address": address, "insecure": certificate is None}
    if certificate is not None:
        connection["root-certificates"] = str(certificate.resolve())
    with raise_on_signals(), tempfile.TemporaryDirectory(prefix="fedlab-flwr-") as name:
        home = Path(name)
        environment = prepare_app(home, scenario, folder, resume=resume)
        write_connection(home, connection)
        lines = flwr_run(home, environment, on_line)
    judge_run(scenario, folder, lines, reason=no_answer(lines, address, certificate))


def no_answer(lines: list[str], address: str, certificate: Path | None) -> str | None:
    """Say that the SuperLink cannot be reached, and what may be wrong; ``None`` if it could be.

    Args:
        lines: Last lines that ``flwr run`` printed.
        address: Host and port of the SuperLink.
        certificate: Certificate of the authority that clients trust; ``None`` without TLS.
    """
    if not any(NO_ANSWER in line for line in lines):
        return None
    doubt = "it speaks TLS" if certificate is None else f"its certificate is not by {certificate}"
    return f"no SuperLink answers at {address}: it has ended, the address is wrong, or {doubt}"
