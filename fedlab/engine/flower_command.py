"""Running a scenario by the command ``flwr run``, and judging it by the files that it wrote.

The command exits with 0 whatever happens to the run.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

import tomli_w

from fedlab.core.errors import BadInput, RunFailed
from fedlab.core.plain_text import plain_text
from fedlab.engine.guardian import AFTERWARDS, AFTERWARDS_SECONDS, END, PARTING
from fedlab.engine.guardian import __file__ as guardian_script
from fedlab.results.checkpoint import Checkpoint
from fedlab.scenario.scenario import Scenario

LONGEST_LINE = 2000
"""Largest number of characters of a line of the run that is passed on."""

ENTRY = "from simulations.{name} import app as found\n\napp = found\n"
"""Source of an app; Flower looks for the name ``app`` in the text, and ignores imports of it."""

_OWN_LINES = re.compile(r"(round \d+: |waiting for client).*")
"""Lines of the run itself, among the many lines of Flower and Ray."""

_COLOURS = re.compile(rb"\x1b\[[\d;]*m")
"""Sequences by which Flower colours its lines."""

_FRAME = "╭╮╰╯─│ "
"""Characters of the frame that Flower draws around its errors."""

_STARTED = re.compile(r"Successfully started run (\d+)")
"""Line of ``flwr run`` with the number of the run on the SuperLink."""


def prepare_app(home: Path, scenario: Scenario, folder: Path, *, resume: bool) -> dict[str, str]:
    """Write a Flower app that runs a scenario, into a folder that serves as Flower's home.

    Args:
        home: An empty folder.
        scenario: The experiment.
        folder: Folder of the run.
        resume: True to continue the run in the folder.

    Returns:
        The environment variables of Flower's commands.

    Raises:
        BadInput: If Flower's commands are not installed.
    """
    command = _command()
    config: dict[str, str | bool] = {
        "scenario": str(home / "scenario.toml"),
        "out": str(folder.resolve()),
        "resume": resume,
    }
    (home / "scenario.toml").write_text(scenario.to_toml(), encoding="utf-8")
    _write_app(home / "app", config)
    return os.environ | {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "PATH": f"{command.parent}{os.pathsep}{os.environ.get('PATH', '')}",
        # Plug-ins in the working folder must be found in every process of the run.
        "PYTHONPATH": f"{Path.cwd()}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }


def write_connection(home: Path, connection: Mapping[str, str | bool]) -> None:
    """Write how ``flwr run`` reaches the SuperLink: its address, and its certificate or none."""
    content = {"superlink": {"fedlab": dict(connection)}}
    (home / "config.toml").write_text(tomli_w.dumps(content), encoding="utf-8")


def _command() -> Path:
    command = Path(sys.executable).with_name("flwr")
    if not command.is_file():
        raise BadInput("this engine needs Flower's commands: pip install 'flwr[simulation]'")
    return command


def _write_app(app: Path, config: dict[str, str | bool]) -> None:
    app.mkdir()
    for name in ("server_app", "client_app"):
        (app / f"fedlab_{name}.py").write_text(ENTRY.format(name=name), encoding="utf-8")
    description = {
        "project": {
            "name": "fedlab-run",
            "version": "1.0.0",
            "description": "A scenario of fedlab",
            "license": "Apache-2.0",
            "dependencies": [],
        },
        "tool": {
            "flwr": {
                "app": {
                    "publisher": "fedlab",
                    "components": {
                        "serverapp": "fedlab_server_app:app",
                        "clientapp": "fedlab_client_app:app",
                    },
                    "config": config,
                }
            }
        },
    }
    (app / "pyproject.toml").write_text(tomli_w.dumps(description), encoding="utf-8")


@contextlib.contextmanager
def guarded(
    home: Path, command: list[str], environment: dict[str, str], output: int | IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command that ends with the block, or if this process is killed, with all it started.

    Yields:
        The guardian of the command, which ends with it and with its exit status.
    """
    guardian = subprocess.Popen(
        [sys.executable, "-P", guardian_script, str(home), *command],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that Ctrl-C reaches this process alone
    )
    try:
        yield guardian
    finally:
        try:
            guardian.communicate(END, timeout=3 * PARTING + AFTERWARDS_SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            guardian.kill()


def flwr_run(
    home: Path,
    environment: dict[str, str],
    on_line: Callable[[str], None],
) -> list[str]:
    """Run the app and wait for its end.

    The run is the SuperLink's, and outlives the command: it is stopped there as well.

    Args:
        home: Folder that ``prepare_app`` and ``write_connection`` wrote to.
        environment: Environment variables from ``prepare_app``.
        on_line: Called with every line that the run prints about a round.

    Returns:
        The last lines that the command printed.
    """
    lines: list[str] = []
    whole = [str(_command()), "run", str(home / "app"), "fedlab", "--stream"]
    with guarded(home, whole, environment, subprocess.PIPE) as process:
        for raw in process.stdout or ():
            line = plain_text(_COLOURS.sub(b"", raw).decode(errors="replace"), most=LONGEST_LINE)
            lines = [*lines[-99:], line]
            if started := _STARTED.search(line):
                stop = [str(_command()), "stop", started[1], "fedlab"]
                (home / AFTERWARDS).write_text(json.dumps(stop), encoding="utf-8")
            if said := _OWN_LINES.search(line):
                on_line(said[0])
    return lines


def judge_run(
    scenario: Scenario, folder: Path, lines: list[str], reason: str | None = None
) -> None:
    """Check that a run reached its last round.

    Args:
        scenario: The experiment.
        folder: Folder of the run.
        lines: Last lines that ``flwr run`` printed, of which one may say why it failed.
        reason: Why it ended if no line says so; ``None`` quotes the last lines.

    Raises:
        BadInput: If the run was refused.
        RunFailed: If it ended early for another reason.
    """
    reached = 0
    with contextlib.suppress(BadInput):
        reached = Checkpoint.load(folder / "checkpoints" / "last.safetensors").round
    if reached == scenario.rounds:
        return
    for line in reversed(lines):
        for kind in (BadInput, RunFailed):
            _, found, said = line.partition(f"{kind.__name__}: ")
            if found:
                raise kind(said)
    last = " / ".join(said for line in lines[-5:] if (said := line.strip(_FRAME)))
    raise RunFailed(f"the run ended after round {reached} of {scenario.rounds}: {reason or last}")
