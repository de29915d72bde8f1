"""The ClientApp of `flwr run .`: every process loads the scenario's images once."""

from functools import lru_cache
from pathlib import Path

from flwr.app import Context

import fedlab  # noqa: F401  (sets what Flower and Ray read when they are imported)
from fedlab.client.app import client_app
from fedlab.client.federated_data import FederatedData
from fedlab.core.devices import prepare
from fedlab.results.folder import RunFolder
from fedlab.scenario.scenario import Scenario


@lru_cache(maxsize=1)
def _site(name: str, out: str) -> FederatedData:
    scenario = Scenario.load(name)
    prepare(scenario.engine.threads)
    federated = FederatedData.of(scenario)
    if out:  # otherwise only the server knows the folder, and each process makes its own poisons
        federated.cache.folder = RunFolder(Path(out)).poisons
    return federated


def _site_of(context: Context) -> FederatedData:
    return _site(str(context.run_config["scenario"]), str(context.run_config["out"]))


app = client_app(_site_of)
