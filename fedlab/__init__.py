"""fedlab: a privacy testbed for federated learning on images."""

import logging
import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Flower and Ray read these when they are imported, so they are set before anything else is.
for _name, _value in {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}.items():
    os.environ.setdefault(_name, _value)

# Opacus configures the root logger when it is imported, and Flower's lines would come twice.
logging.getLogger("flwr").propagate = False

if TYPE_CHECKING:
    from attacks.knowledge import LocalSGD
    from fedlab.comparison import Comparison, compare
    from fedlab.errors import BadInput, RunFailed
    from fedlab.evaluation.scores import score_images
    from fedlab.federation import Federation
    from fedlab.round_result import RoundResult
    from fedlab.scenario import Scenario
    from fedlab.server.observing import observe
    from fedlab.trace import Trace

_HOMES = {
    "BadInput": "fedlab.errors",
    "Comparison": "fedlab.comparison",
    "Federation": "fedlab.federation",
    "LocalSGD": "attacks.knowledge",
    "RoundResult": "fedlab.round_result",
    "RunFailed": "fedlab.errors",
    "Scenario": "fedlab.scenario",
    "Trace": "fedlab.trace",
    "compare": "fedlab.comparison",
    "observe": "fedlab.server.observing",
    "score_images": "fedlab.evaluation.scores",
}

__all__ = [
    "BadInput",
    "Comparison",
    "Federation",
    "LocalSGD",
    "RoundResult",
    "RunFailed",
    "Scenario",
    "Trace",
    "compare",
    "observe",
    "score_images",
]


def __getattr__(name: str) -> Any:
    """Import on first use: PyTorch, Flower and Opacus take seconds."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'fedlab' has no attribute {name!r}")
