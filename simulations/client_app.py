"""The ClientApp of `flwr run .`: every process loads the scenario's images once."""

from functools import lru_cache

from flwr.app import Context

import fedlab  # noqa: F401  (sets what Flower and Ray read when they are imported)
from fedlab.client.app import client_app
from fedlab.client.site import Site
from fedlab.devices import prepare
from fedlab.scenario import Scenario


@lru_cache(maxsize=1)
def _site(name: str) -> Site:
    scenario = Scenario.load(name)
    prepare(scenario.engine.threads)
    return Site.of(scenario)


def _site_of(context: Context) -> Site:
    return _site(str(context.run_config["scenario"]))


app = client_app(_site_of)
