"""The ServerApp of `flwr run .`: the same Federation, over Flower's own grid."""

import logging
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedlab.results.folder import next_free
from fedlab.results.round_result import RoundResult
from fedlab.scenario.scenario import Scenario
from fedlab.simulation.federation import Federation

log = logging.getLogger("flwr")  # whose lines `flwr run --stream` shows

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the scenario that the run config names, or go on with the run in its folder."""
    name, out = str(context.run_config["scenario"]), str(context.run_config["out"])

    def tell(done: RoundResult) -> None:
        log.info("%s", done)

    if context.run_config["resume"]:
        federation = Federation.resume(out, grid=grid, on_round=tell)
    else:
        scenario = Scenario.load(name)
        folder = Path(out) if out else next_free(Path.home() / "fedlab-runs", scenario.name)
        federation = Federation(scenario, out=folder, grid=grid, on_round=tell)
    log.info("fedlab writes to %s", federation.folder.path)
    federation.run()
