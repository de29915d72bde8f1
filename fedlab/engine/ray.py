"""Running a scenario by ``flwr run`` on Ray.

Flower's command leaves a SuperLink running and exits with 0 whatever happens to the run. This
module therefore starts a SuperLink of its own, judges the run by the files that it wrote, and stops
every process that it started.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import IO

import tomli_w
import torch

from fedlab.core.errors import BadInput, RunFailed
from fedlab.core.plain_text import plain_text
from fedlab.engine.guardian import END, PARTING
from fedlab.engine.guardian import __file__ as guardian_script
from fedlab.results.checkpoint import Checkpoint
from fedlab.scenario.scenario import Scenario

STARTUP = 60.0
"""Seconds within which the SuperLink must answer."""

LONGEST_LINE = 2000
"""Largest number of characters of a line of the run that is passed on."""

LONGEST_TEMPORARY = 37
"""Largest number of characters of a folder in which Ray can still open its sockets."""

ENDINGS = (signal.SIGTERM, signal.SIGHUP)
"""Signals that a scheduler, a shutdown or a closed terminal sends."""

ENTRY = "from simulations.{name} import app as found\n\napp = found\n"
"""Source of an app; Flower looks for the name ``app`` in the text, and ignores imports of it."""

_OWN_LINES = re.compile(r"round \d+: .*")
"""Lines of the run itself, among the many lines of Flower and Ray."""


def run_on_ray(
    scenario: Scenario,
    folder: Path,
    *,
    on_line: Callable[[str], None],
    resume: bool = False,
) -> None:
    """Run a scenario on Ray, with the same results as on the in-process engine.

    Args:
        scenario: The experiment.
        folder: Folder of the run: a new one, or that of the run to resume.
        on_line: Called with every line that the run prints about a round or an error.
        resume: True to continue the run in the folder.

    Raises:
        BadInput: If Ray is not installed.
        RunFailed: If the run did not reach its last round, or a signal stopped it.
    """
    command = Path(sys.executable).with_name("flwr")
    if not command.is_file():
        raise BadInput("the ray engine needs Flower's commands: pip install 'flwr[simulation]'")
    with _raise_on_signals(), tempfile.TemporaryDirectory(prefix="fedlab-flwr-") as name:
        home = Path(name)
        config: dict[str, str | bool] = {
            "scenario": str(home / "scenario.toml"),
            "out": str(folder.resolve()),
            "resume": resume,
        }
        (home / "scenario.toml").write_text(scenario.to_toml(), encoding="utf-8")
        _write_app(home / "app", config)
        environment = os.environ | {
            "FLWR_HOME": str(home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            # Ray's own files then go with the folder.
            **({"RAY_TMPDIR": name} if len(name) <= LONGEST_TEMPORARY else {}),
            "PATH": f"{command.parent}{os.pathsep}{os.environ.get('PATH', '')}",
            # Plug-ins in the working folder must be found in every process of the run.
            "PYTHONPATH": f"{Path.cwd()}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        }
        with _superlink(home, environment) as address:
            connection = {"superlink": {"fedlab": {"address": address, "insecure": True}}}
            (home / "config.toml").write_text(tomli_w.dumps(connection), encoding="utf-8")
            lines = _flwr_run(command, home / "app", scenario, environment, on_line)
    _judge(scenario, folder, lines)


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
def _raise_on_signals() -> Iterator[None]:
    """Turn signals that end a process into exceptions, so that its child processes end as well.

    Ignored signals, as under nohup, stay ignored; outside of the main thread nothing changes.
    """
    before = {number: signal.getsignal(number) for number in ENDINGS}
    ours = [number for number in ENDINGS if before[number] not in (signal.SIG_IGN, None)]
    if threading.current_thread() is not threading.main_thread():
        ours = []

    def raise_failure(number: int, _: FrameType | None) -> None:
        for each in ours:
            signal.signal(each, signal.SIG_IGN)  # a second signal must not stop the clean-up
        raise RunFailed(f"the run was ended by {signal.Signals(number).name}")

    for number in ours:
        signal.signal(number, raise_failure)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])


@contextlib.contextmanager
def _superlink(home: Path, environment: dict[str, str]) -> Iterator[str]:
    """Start a SuperLink on a free port, and stop it with all its processes after the block."""
    port = _free_port()
    log = (home / "superlink.txt").open("wb")
    command = [
        *(str(Path(sys.executable).with_name("flower-superlink")), "--insecure"),
        *("--simulation", "--isolation", "subprocess", "--host", "127.0.0.1"),
        *("--port", str(port), "--database", str(home / "state.db")),
    ]
    with log, _guarded(home, command, environment, log) as process:
        deadline = time.monotonic() + STARTUP
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                said = (home / "superlink.txt").read_text(errors="replace")[-500:]
                raise RunFailed(f"Flower's SuperLink did not start: {said.strip()}")
            time.sleep(0.2)
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def _guarded(
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
            guardian.communicate(END, timeout=3 * PARTING)
        except (OSError, subprocess.TimeoutExpired):
            guardian.kill()


def _flwr_run(
    command: Path,
    app: Path,
    scenario: Scenario,
    environment: dict[str, str],
    on_line: Callable[[str], None],
) -> list[str]:
    """Run the app and return the last lines that it printed."""
    gpus = torch.cuda.device_count() if scenario.engine.device != "cpu" else 0
    workers = min(scenario.data.clients, max(1, (os.cpu_count() or 1) // scenario.engine.threads))
    federation = {
        "num-supernodes": scenario.data.clients,
        "client-resources-num-cpus": 1,
        # Ray hides the GPUs from actors that request none.
        "client-resources-num-gpus": gpus / workers,
        "init-args-num-cpus": workers,
        "init-args-log-to-driver": "false",
    }
    lines: list[str] = []
    whole = [
        *(str(command), "run", str(app), "fedlab", "--stream", "--federation-config"),
        " ".join(f"{key}={value}" for key, value in federation.items()),
    ]
    with _guarded(app.parent, whole, environment, subprocess.PIPE) as process:
        for raw in process.stdout or ():
            line = plain_text(raw.decode(errors="replace"), most=LONGEST_LINE)
            lines = [*lines[-99:], line]
            if said := _OWN_LINES.search(line):
                on_line(said[0])
    return lines


def _judge(scenario: Scenario, folder: Path, lines: list[str]) -> None:
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
    last = " / ".join(line for line in lines[-5:] if line)
    raise RunFailed(f"the run on Ray ended after round {reached} of {scenario.rounds}: {last}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
