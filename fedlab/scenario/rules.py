"""Names of aggregation rules. Importing it needs neither torch nor Flower."""

from typing import Any

from fedlab.core.plugins import Registry

_FLOWER = (
    *("FedAvg", "FedAvgM", "FedAdam", "FedAdagrad", "FedYogi", "FedProx", "QFedAvg"),
    *("FedMedian", "FedTrimmedAvg", "Krum"),
)

RULES: Registry[type[Any]] = Registry(
    "aggregation rule",
    group="fedlab.rules",
    builtin={name: f"flwr.serverapp.strategy:{name}" for name in _FLOWER}
    | {
        "MultiKrum": "fedlab.server.krum:MultiKrum",
        "Bulyan": "fedlab.server.krum:Bulyan",
        "NormClipping": "fedlab.server.norm_clipping:NormClipping",
        "GeometricMedian": "fedlab.server.geometric_median:GeometricMedian",
        "FLTrust": "fedlab.server.fltrust:FLTrust",
        "FLAME": "fedlab.server.flame:FLAME",
        "DnC": "fedlab.server.dnc:DnC",
        "CenteredClipping": "fedlab.server.centered_clipping:CenteredClipping",
        "Bucketing": "fedlab.server.bucketing:Bucketing",
        "FoolsGold": "fedlab.server.foolsgold:FoolsGold",
    },
)
"""Subclasses of Flower's ``FedAvg``: Flower's own rules for weights, and ours, by class name."""
