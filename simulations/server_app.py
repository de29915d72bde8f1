"""The ServerApp of `flwr run .`: a Federation over Flower's own grid."""

import logging
from pathlib import Path

import psutil
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedlab.results.folder import next_free
from fedlab.results.round_result import RoundResult
from fedlab.scenario.scenario import Scenario
from fedlab.simulation.federation import Federation

log = logging.getLogger("flwr")  # `flwr run --stream` shows its lines

PULL_INTERVAL = 0.01
"""Seconds between two looks for replies; Flower's own is 0.1."""

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the scenario of the run config, or resume the run in its folder."""
    name, out = str(context.run_config["scenario"]), str(context.run_config["out"])
    if hasattr(grid, "pull_interval"):  # in a simulation, where a short round takes 0.3 s
        grid.pull_interval = PULL_INTERVAL

    def log_round(result: RoundResult) -> None:
        log.info("%s", result)

    if context.run_config["resume"]:
        federation = Federation.resume(out, grid=grid, on_round=log_round)
    else:
        scenario = Scenario.load(name)
        folder = Path(out) if out else next_free(Path.home() / "fedlab-runs", scenario.name)
        federation = Federation(scenario, out=folder, grid=grid, on_round=log_round)
    log.info("fedlab writes to %s", federation.folder.path)
    try:
        federation.run()
    finally:
        if superlink := _left_running():
            log.info("flwr run leaves its SuperLink running; to end it: kill %d", superlink)


def _left_running() -> int | None:
    """Process id of the SuperLink that ``flwr run`` started for simulations; ``None`` for others.

    That of a deployment belongs to whoever started it.
    """
    for process in psutil.Process().parents():
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        if "--simulation" in command and any("flower-superlink" in part for part in command):
            found: int = process.pid
            return found
    return None
