"""Memory of an aggregation rule between rounds, such as momentum, as arrays by name."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp.strategy import Strategy

Memory = Mapping[str, np.ndarray[Any, Any]]


def memory_of(strategy: Strategy) -> dict[str, np.ndarray[Any, Any]]:
    """Collect the arrays among the attributes of a rule, by a path of names.

    An attribute that is one bare array is left out: our own rules store in such attributes what
    they set anew in every round. The memory of a rule that another one holds is under the name of
    the attribute and a dot.
    """
    memory: dict[str, np.ndarray[Any, Any]] = {}
    for attribute, value in sorted(vars(strategy).items()):
        if isinstance(value, Strategy):
            memory |= {f"{attribute}.{path}": array for path, array in memory_of(value).items()}
        part, arrays = _arrays(value)
        for place, (name, array) in enumerate(arrays.items()):
            memory[f"{attribute}/{part}/{place:06d}/{name}"] = array
    return memory


def recall(strategy: Strategy, memory: Memory) -> None:
    """Restore what ``memory_of`` returned, to a rule made with the same options."""
    kept: dict[tuple[str, str], dict[str, np.ndarray[Any, Any]]] = {}
    held: dict[str, dict[str, np.ndarray[Any, Any]]] = {}
    # In order of their places, since Flower's rules access their arrays by position.
    for path, array in sorted(memory.items()):
        attribute, part, _, name = path.split("/", 3)
        if "." in attribute:
            owner, _, inner = path.partition(".")
            held.setdefault(owner, {})[inner] = array
            continue
        kept.setdefault((attribute, part), {})[name] = array
    for (attribute, part), arrays in kept.items():
        setattr(strategy, attribute, _value(part, arrays))
    for owner, inner_memory in held.items():
        recall(getattr(strategy, owner), inner_memory)


def _arrays(value: object) -> tuple[str, dict[str, np.ndarray[Any, Any]]]:
    """Kind of container that an attribute is, and the arrays in it by name."""
    if isinstance(value, ArrayRecord):
        return "record", {name: array.numpy() for name, array in value.items()}
    if isinstance(value, dict) and all(map(_numeric, value.values())):
        return "dict", {name: np.asarray(array) for name, array in value.items()}
    if isinstance(value, list) and all(map(_numeric, value)):
        return "list", {str(index): np.asarray(array) for index, array in enumerate(value)}
    return "none", {}


def _numeric(value: object) -> bool:
    """True for an array, or a NumPy number that arithmetic made of one without dimensions."""
    return isinstance(value, np.ndarray | np.generic)


def _value(part: str, arrays: Memory) -> object:
    if part == "record":
        return ArrayRecord({name: Array(array) for name, array in arrays.items()})
    if part == "list":
        return list(arrays.values())
    return dict(arrays)
