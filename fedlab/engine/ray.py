"""Running a scenario by ``flwr run`` on Ray.

Flower's command leaves a SuperLink running and exits with 0 whatever happens to the run. This
module therefore starts a SuperLink of its own, judges the run by the files that it wrote, and stops
every process that it started.
"""

import contextlib
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from fedlab.core.errors import RunFailed
from fedlab.engine.flower_command import (
    flwr_run,
    guarded,
    judge_run,
    prepare_app,
    raise_on_signals,
    write_connection,
)
from fedlab.scenario.scenario import Scenario

STARTUP = 60.0
"""Seconds within which the SuperLink must answer."""


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
        BadInput: If Flower's commands are not installed.
        RunFailed: If the run did not reach its last round, or a signal stopped it.
    """
    with raise_on_signals(), tempfile.TemporaryDirectory(prefix="fedlab-flwr-") as name:
        home = Path(name)
        environment = prepare_app(home, scenario, folder, resume=resume)
        with _superlink(home, environment) as address:
            write_connection(home, {"address": address, "insecure": True})
            lines = flwr_run(home, environment, on_line, _federation(scenario))
    judge_run(scenario, folder, lines)


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
    with log, guarded(home, command, environment, log) as process:
        deadline = time.monotonic() + STARTUP
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                said = (home / "superlink.txt").read_text(errors="replace")[-500:]
                raise RunFailed(f"Flower's SuperLink did not start: {said.strip()}")
            time.sleep(0.2)
        yield f"127.0.0.1:{port}"


def _federation(scenario: Scenario) -> dict[str, object]:
    """Flower's settings of a simulated federation: its nodes and their share of the hardware."""
    gpus = torch.cuda.device_count() if scenario.engine.device != "cpu" else 0
    workers = min(scenario.data.clients, max(1, (os.cpu_count() or 1) // scenario.engine.threads))
    return {
        "num-supernodes": scenario.data.clients,
        "client-resources-num-cpus": 1,
        # Ray hides the GPUs from actors that request none.
        "client-resources-num-gpus": gpus / workers,
        "init-args-num-cpus": workers,
        "init-args-log-to-driver": "false",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
