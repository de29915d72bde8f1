"""Gradient inversion: an attack is a method with an objective, priors and a step rule.

Names are imported on first use, so that presets can be read without importing PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attacks.reconstruction.inversion import invert
    from attacks.reconstruction.methods import RunOptions
    from attacks.reconstruction.payload_consistency import Consistency, consistency
    from attacks.reconstruction.presets import PRESETS, AttackSettings
    from attacks.reconstruction.priors import PriorContext
    from attacks.reconstruction.problem import EarlierUpdate, Problem
    from attacks.reconstruction.result import Reconstruction
    from attacks.reconstruction.watch import Progress, Watch

_MODULES = {
    "AttackSettings": "presets",
    "Consistency": "payload_consistency",
    "EarlierUpdate": "problem",
    "PRESETS": "presets",
    "PriorContext": "priors",
    "Problem": "problem",
    "Progress": "watch",
    "Reconstruction": "result",
    "RunOptions": "methods",
    "Watch": "watch",
    "consistency": "payload_consistency",
    "invert": "inversion",
}
"""Module of each public name."""

__all__ = [
    "PRESETS",
    "AttackSettings",
    "Consistency",
    "EarlierUpdate",
    "PriorContext",
    "Problem",
    "Progress",
    "Reconstruction",
    "RunOptions",
    "Watch",
    "consistency",
    "invert",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found
    return found
