"""The ClientApp of `flwr run .`; each process loads the images of the scenario once."""

from functools import lru_cache
from pathlib import Path

from flwr.app import Context

import fedlab  # noqa: F401  (sets environment variables that Flower and Ray read)
from fedlab.client.app import client_app
from fedlab.client.federated_data import FederatedData
from fedlab.core.devices import prepare
from fedlab.results.folder import RunFolder
from fedlab.scenario.scenario import Scenario


@lru_cache(maxsize=1)
def _load_data(name: str, out: str) -> FederatedData:
    scenario = Scenario.load(name)
    prepare(scenario.engine.threads)
    federated = FederatedData.of(scenario)
    if out:  # without a folder each process crafts its own poisons
        federated.cache.folder = RunFolder(Path(out)).poisons
    return federated


def _data_of(context: Context) -> FederatedData:
    return _load_data(str(context.run_config["scenario"]), str(context.run_config["out"]))


app = client_app(_data_of)
