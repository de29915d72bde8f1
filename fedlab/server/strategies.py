"""Aggregation rules made from the name and the options in a scenario."""

import inspect
from collections.abc import Mapping
from typing import Any

from flwr.serverapp.strategy import FedAvg, QFedAvg

from fedlab.core.errors import BadInput
from fedlab.core.plugins import check_subclass, describe
from fedlab.scenario.rules import RULES
from fedlab.server.traits import traits_of

FIXED: dict[str, Any] = {
    "fraction_train": 1.0,  # the cohort is sampled by partition id before Flower sees it
    "fraction_evaluate": 1.0,  # never used: the server evaluates the global model itself
    "min_train_nodes": 1,
    "min_evaluate_nodes": 0,
    "min_available_nodes": 1,
}
"""Arguments of Flower's rules that a scenario cannot choose."""


def rule_class(name: str) -> type[FedAvg]:
    """Import an aggregation rule.

    Args:
        name: Name in ``RULES``, or ``package.module:Name``.

    Raises:
        BadInput: If there is no such rule, it is no subclass of Flower's ``FedAvg``, or it lacks a
            method.
    """
    found: type[FedAvg] = RULES.get(name)
    if problem := check_subclass(FedAvg)(found):
        raise BadInput(f'aggregation rule "{name}" {problem}')
    if issubclass(found, QFedAvg):
        raise BadInput(f"{name} weighs clients by their training losses, which do not travel here")
    if traits_of(found).needs_root and not hasattr(found, "set_root"):
        raise BadInput(f'aggregation rule "{name}" needs root images but lacks the method set_root')
    return found


def make_strategy(name: str, options: Mapping[str, Any]) -> FedAvg:
    """Make an aggregation rule.

    Args:
        name: Name in ``RULES``, or ``package.module:Name``.
        options: Keyword arguments of its class.

    Raises:
        BadInput: If there is no such rule, it does not take these options, or it needs what
            clients do not send.
    """
    rule = rule_class(name)
    parameters = _signature(rule).parameters
    open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    known = {key for key, each in parameters.items() if each.kind is not each.VAR_KEYWORD}
    known -= set(FIXED)
    if not traits_of(rule).passes_options and (unknown := sorted(set(options) - known)):
        offered = sorted(key for key in known if not key.endswith(("_key", "_fn", "_rule")))
        raise BadInput(f"{name} has no option {unknown[0]}; it has {', '.join(offered) or 'none'}")
    for key, value in options.items():
        if key in parameters and (problem := _mismatch(value, parameters[key].annotation)):
            raise BadInput(f"{name}: {key} is {problem}, not {value!r}")
    fixed = {key: value for key, value in FIXED.items() if open_ended or key in parameters}
    try:
        made = rule(**fixed, **options)
    except BadInput as error:  # of a rule that it holds
        raise BadInput(f"{name}: {error}") from error
    except Exception as error:  # somebody else's class may raise anything
        raise BadInput(f"{name} cannot be made with these options: {describe(error)}") from error
    for key in FIXED.keys() - fixed.keys():
        setattr(made, key, FIXED[key])
    return made


def _signature(rule: type[FedAvg]) -> inspect.Signature:
    try:
        return inspect.signature(rule, eval_str=True)
    except NameError:  # an annotation that exists for type checkers alone
        return inspect.signature(rule)


def _mismatch(value: object, annotation: object) -> str | None:
    """The kind of value that an option takes, if this is another one; rules do not check it."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is bool and not isinstance(value, bool):
        return "true or false"
    if annotation is int and not (number and isinstance(value, int)):
        return "a whole number"
    if annotation in (float, float | None) and not number:
        return "a number"
    return None
