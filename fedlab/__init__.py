"""fedlab: a privacy testbed for federated learning on images."""

import logging
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fedlab.core.distribution import refuse_other_distribution

refuse_other_distribution()

# Flower, Ray and MLflow read these when they are imported, so they are set before anything else is.
for _name, _value in {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}.items():
    os.environ.setdefault(_name, _value)

# Opacus configures the root logger when it is imported, and Flower's lines would come twice.
logging.getLogger("flwr").propagate = False

if "IPython" in sys.modules:
    import_module("fedlab.core.views").register_in_notebook()

if TYPE_CHECKING:
    from attacks.knowledge import LocalSGD
    from fedlab.comparison import Comparison, compare
    from fedlab.core.errors import BadInput, RunFailed
    from fedlab.core.trackers import Tracker
    from fedlab.data.images import ImageData
    from fedlab.defenses import Account, Defense
    from fedlab.evaluation.attack_trace import AttackTrace
    from fedlab.integrations.audit import Audit
    from fedlab.integrations.observer import observe
    from fedlab.integrations.update_audit import audit_update
    from fedlab.metrics.metric import metric
    from fedlab.metrics.scores import score_images
    from fedlab.poisoning.base import DataPoison
    from fedlab.poisoning.updates.base import UpdateAttack
    from fedlab.results.round_result import RoundResult
    from fedlab.scenario.scenario import Scenario
    from fedlab.simulation.budget import Plan, plan
    from fedlab.simulation.callbacks import Callback
    from fedlab.simulation.federation import Federation

_HOMES = {
    "Account": "fedlab.defenses",
    "AttackTrace": "fedlab.evaluation.attack_trace",
    "Audit": "fedlab.integrations.audit",
    "BadInput": "fedlab.core.errors",
    "Callback": "fedlab.simulation.callbacks",
    "Comparison": "fedlab.comparison",
    "DataPoison": "fedlab.poisoning.base",
    "Defense": "fedlab.defenses",
    "Federation": "fedlab.simulation.federation",
    "ImageData": "fedlab.data.images",
    "LocalSGD": "attacks.knowledge",
    "Plan": "fedlab.simulation.budget",
    "RoundResult": "fedlab.results.round_result",
    "RunFailed": "fedlab.core.errors",
    "Scenario": "fedlab.scenario.scenario",
    "Tracker": "fedlab.core.trackers",
    "UpdateAttack": "fedlab.poisoning.updates.base",
    "audit_update": "fedlab.integrations.update_audit",
    "compare": "fedlab.comparison",
    "metric": "fedlab.metrics.metric",
    "observe": "fedlab.integrations.observer",
    "plan": "fedlab.simulation.budget",
    "score_images": "fedlab.metrics.scores",
}

__all__ = [
    "Account",
    "AttackTrace",
    "Audit",
    "BadInput",
    "Callback",
    "Comparison",
    "DataPoison",
    "Defense",
    "Federation",
    "ImageData",
    "LocalSGD",
    "Plan",
    "RoundResult",
    "RunFailed",
    "Scenario",
    "Tracker",
    "UpdateAttack",
    "audit_update",
    "compare",
    "metric",
    "observe",
    "plan",
    "score_images",
]


def __dir__() -> list[str]:
    """Name the public API, which is imported on first use."""
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """Import on first use: PyTorch, Flower and Opacus take seconds."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'fedlab' has no attribute {name!r}")
