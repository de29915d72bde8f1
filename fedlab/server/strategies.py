"""The rules that replies are combined by: Flower's, and ours beside them."""

import inspect
from collections.abc import Mapping
from typing import Any

from flwr.serverapp import strategy
from flwr.serverapp.strategy import FedAvg

from fedlab.core.errors import BadInput
from fedlab.server.fltrust import FLTrust
from fedlab.server.geometric_median import GeometricMedian
from fedlab.server.norm_clipping import NormClipping

STRATEGIES: dict[str, type[FedAvg]] = {
    name: found
    for name, found in vars(strategy).items()
    if inspect.isclass(found) and issubclass(found, FedAvg) and "Xgb" not in name
} | {rule.__name__: rule for rule in (NormClipping, GeometricMedian, FLTrust)}
"""Flower's aggregation rules for weights and ours, by class name."""

LINEAR = ("FedAvg", "FedAvgM", "FedAdam", "FedAdagrad", "FedYogi", "FedProx")
"""Those that need no more than the weighted mean of the replies."""

OURS: dict[str, Any] = {
    "fraction_train": 1.0,  # the cohort is sampled by partition id before Flower sees it
    "fraction_evaluate": 1.0,  # never used: the server evaluates the global model itself
    "min_train_nodes": 1,
    "min_evaluate_nodes": 0,
    "min_available_nodes": 1,
}
"""Arguments that are not for a scenario to choose."""


def make_strategy(name: str, options: Mapping[str, Any]) -> FedAvg:
    """A rule by its name.

    Args:
        name: A key of ``STRATEGIES``.
        options: Keyword arguments of that class.

    Raises:
        BadInput: If there is no such rule, it does not take these options, or its clients would
            have to send what they do not.
    """
    if name not in STRATEGIES:
        raise BadInput(
            f'server.strategy "{name}" is unknown; known: {", ".join(sorted(STRATEGIES))}'
        )
    if name == "QFedAvg":
        raise BadInput("QFedAvg weighs clients by their training losses, which do not travel here")
    signature = inspect.signature(STRATEGIES[name])
    taken = signature.parameters.values()
    known = {each.name for each in taken if each.kind is not each.VAR_KEYWORD} - set(OURS)
    if unknown := sorted(set(options) - known):
        offered = sorted(key for key in known if not key.endswith(("_key", "_fn", "_rule")))
        raise BadInput(f"{name} has no option {unknown[0]}; it has {', '.join(offered) or 'none'}")
    for key, value in options.items():
        if problem := _misfit(value, signature.parameters[key].annotation):
            raise BadInput(f"{name}: {key} is {problem}, not {value!r}")
    try:
        return STRATEGIES[name](**OURS, **options)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{name} cannot be made with these options: {error}") from error


def _misfit(value: object, annotation: object) -> str | None:
    """What an option should be, if it is something else; the rules themselves do not ask."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is bool and not isinstance(value, bool):
        return "true or false"
    if annotation is int and not (number and isinstance(value, int)):
        return "a whole number"
    if annotation in (float, float | None) and not number:
        return "a number"
    return None
