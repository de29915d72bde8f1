"""Runs a scenario by `flwr run` on Ray, waits for it, and tells failure from success.

Flower's command leaves a SuperLink behind and exits with 0 whatever happens to the run, so
this starts a SuperLink of its own, judges the run by what it wrote, and ends what it started.
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

import psutil
import tomli_w
import torch

from fedlab.core.errors import BadInput, RunFailed
from fedlab.results.checkpoint import Checkpoint
from fedlab.scenario.scenario import Scenario

STARTUP = 60.0
"""Seconds that the SuperLink may take to answer."""

PARTING = 10.0
"""Seconds that the SuperLink and its children get to end by themselves."""

ENDINGS = (signal.SIGTERM, signal.SIGHUP)
"""What a scheduler, a shutdown or a closed terminal sends."""

ENTRY = "from simulations.{name} import app as found\n\napp = found\n"
"""Flower looks for the name in the source text, where an import alone does not count."""

_TOLD = re.compile(r"round \d+: .*")
"""What the run itself says, among the many lines of Flower and Ray."""


def run_on_ray(
    scenario: Scenario,
    folder: Path,
    *,
    on_line: Callable[[str], None],
    resume: bool = False,
) -> None:
    """Run a scenario on Ray, with the results that the in-process engine would give.

    Args:
        scenario: What to run.
        folder: Of the run; new, or one to go on with.
        on_line: Gets every line that the run prints about a round or an error.
        resume: Go on with the run in the folder.

    Raises:
        BadInput: If Ray is not installed.
        RunFailed: If the run did not reach its last round, or a signal ended it.
    """
    command = Path(sys.executable).with_name("flwr")
    if not command.is_file():
        raise BadInput("the ray engine needs Flower's commands: pip install 'flwr[simulation]'")
    with _unwinding(), tempfile.TemporaryDirectory(prefix="fedlab-flwr-") as name:
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
            "PATH": f"{command.parent}{os.pathsep}{os.environ.get('PATH', '')}",
            # Factories in the working folder must be found in every process of the run.
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
def _unwinding() -> Iterator[None]:
    """Let the signals that end a process raise, so that what it started is ended as well.

    One that is ignored, as under nohup, stays so; outside of the main thread nothing changes.
    """
    before = {number: signal.getsignal(number) for number in ENDINGS}
    ours = [number for number in ENDINGS if before[number] not in (signal.SIG_IGN, None)]
    if threading.current_thread() is not threading.main_thread():
        ours = []

    def unwind(number: int, _: FrameType | None) -> None:
        for each in ours:
            signal.signal(each, signal.SIG_IGN)  # a second one must not stop the tidying up
        raise RunFailed(f"the run was ended by {signal.Signals(number).name}")

    for number in ours:
        signal.signal(number, unwind)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])


@contextlib.contextmanager
def _superlink(home: Path, environment: dict[str, str]) -> Iterator[str]:
    """A SuperLink on a free port, ended with everything that it started."""
    port = _free_port()
    log = (home / "superlink.txt").open("wb")
    process = subprocess.Popen(
        [
            *(str(Path(sys.executable).with_name("flower-superlink")), "--insecure"),
            *("--simulation", "--isolation", "subprocess", "--host", "127.0.0.1"),
            *("--port", str(port), "--database", str(home / "state.db")),
        ],
        env=environment,
        stdout=log,
        stderr=log,
        start_new_session=True,  # an interrupt at the terminal is for us to pass on
    )
    try:
        deadline = time.monotonic() + STARTUP
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                said = (home / "superlink.txt").read_text(errors="replace")[-500:]
                raise RunFailed(f"Flower's SuperLink did not start: {said.strip()}")
            time.sleep(0.2)
        yield f"127.0.0.1:{port}"
    finally:
        _end(process)
        log.close()


def _end(leader: subprocess.Popen[bytes]) -> None:
    """End a SuperLink and everything that it started, some of it in sessions of its own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(leader.pid).children(recursive=True)
        leader.terminate()
        _, alive = psutil.wait_procs(family, timeout=PARTING)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=PARTING)
    try:
        leader.wait(timeout=PARTING)
    except subprocess.TimeoutExpired:
        leader.kill()
        leader.wait()


def _flwr_run(
    command: Path,
    app: Path,
    scenario: Scenario,
    environment: dict[str, str],
    on_line: Callable[[str], None],
) -> list[str]:
    """Run the app; returns the last lines that it printed."""
    gpus = torch.cuda.device_count() if scenario.engine.device != "cpu" else 0
    workers = min(scenario.data.clients, max(1, (os.cpu_count() or 1) // scenario.engine.threads))
    federation = {
        "num-supernodes": scenario.data.clients,
        "client-resources-num-cpus": 1,
        # Ray hides the GPUs from actors that ask for none.
        "client-resources-num-gpus": gpus / workers,
        "init-args-num-cpus": workers,
        "init-args-log-to-driver": "false",
    }
    lines: list[str] = []
    with subprocess.Popen(
        [
            *(str(command), "run", str(app), "fedlab", "--stream", "--federation-config"),
            " ".join(f"{key}={value}" for key, value in federation.items()),
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            for line in process.stdout or ():
                lines = [*lines[-99:], line.rstrip()]
                if said := _TOLD.search(line):
                    on_line(said[0].rstrip())
        except BaseException:
            process.kill()  # an interrupt must not leave the command waiting for its run
            raise
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
    told = " / ".join(line for line in lines[-5:] if line)
    raise RunFailed(f"the run on Ray ended after round {reached} of {scenario.rounds}: {told}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
