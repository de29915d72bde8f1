"""Hypothesis strategies for whole scenarios: plausible ones with a few odd values."""

from typing import Annotated, Any, Literal, get_args, get_origin

from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from fedlab.defenses import DEFENSES
from fedlab.poisoning.base import POISONS
from fedlab.poisoning.updates.base import UPDATE_ATTACKS
from fedlab.scenario import tables
from fedlab.scenario.rules import RULES

NUMBERS = [0, -1, 1.5, 10**8, 10**9, 2**63, 10**400, 1e308, 1e-300, float("nan"), float("inf")]
TEXTS = ["", "x", "../../x", "\x00", "\x1b[31m", "9" * 5000, "all", "1-", "0%", "x" * 10**5]
OTHERS = [True, [], {}, [[]], None]
ODD = st.sampled_from([*NUMBERS, *TEXTS, *OTHERS])
"""Values that fit almost nowhere."""

SPARSE = {
    "rounds": st.sampled_from(["all", "1", "1-", 1, "from 1 every 2"]),
    "clients": st.sampled_from(["all", "0", "50%", "last 20%", 0]),
    "image_size": st.none(),
    "norm": st.sampled_from(["group", "none"]),
    "batch_size": st.integers(1, 16),
    "epochs": st.integers(1, 2),
    "restarts": st.integers(1, 2),
    "threads": st.just(1),
    "device": st.just("cpu"),
    "preset": st.sampled_from(["fast", "inverting-gradients", "auto", "analytic"]),
    "tuning_iterations": st.integers(1, 4),
    "seconds": st.just(2.0),
    "tuning_seconds": st.just(1.0),
    "source": st.integers(0, 9),
    "root": st.just("/nowhere"),
}
"""Values of keys for which the type alone would give none that works, or too slow ones."""

COSTLY = {"steps", "epochs", "restarts", "ensemble", "iterations", "tuning_iterations", "copies"}
"""Keys whose defaults are too large for a test, so that they are always set."""


def _types(annotation: Any) -> list[Any]:
    """The types that a type is made of, and the values of its ``Literal``."""
    inner = get_args(annotation)
    if get_origin(annotation) is Literal or not inner:
        return [inner or annotation]
    return [found for each in inner for found in _types(each)]


def _value(name: str, field: Any) -> st.SearchStrategy[Any] | None:
    """Plausible values of a field; ``None`` if it has no simple type."""
    if name in SPARSE:
        return SPARSE[name]
    kind = _types(field.annotation)[0]
    if isinstance(kind, tuple):
        return st.sampled_from(kind)
    inside = TypeAdapter(Annotated[Any, field])

    def fits(value: Any) -> bool:
        try:
            inside.validate_python(value)
        except ValidationError:
            return False
        return True

    values = {bool: [False, True], int: [1, 2, 3, 4], float: [0.0, 0.1, 0.5, 0.9, 1.0, 2.0]}
    fitting = [value for value in values.get(kind, []) if fits(value)]
    return st.sampled_from(fitting) if fitting else None


@st.composite
def table_of(draw: Any, kind: Any, **fixed: Any) -> dict[str, Any]:
    """A table of a class of settings: some of its keys, one in eighty with an odd value."""
    table: dict[str, Any] = dict(fixed)
    for name, field in kind.model_fields.items():
        value = _value(name, field)
        if name in fixed or value is None:
            continue
        if name in COSTLY or draw(st.integers(0, 3)) == 0:
            table[name] = draw(ODD if draw(st.integers(0, 79)) == 41 else value)
    return table


def _plugin(registry: Any, key: str) -> st.SearchStrategy[dict[str, Any]]:
    names = st.sampled_from(sorted(registry.builtin))
    return names.flatmap(lambda name: table_of(registry.get(name), **{key: name}))


@st.composite
def scenario_tables(draw: Any) -> dict[str, Any]:
    """A scenario of up to three rounds on a few digits, as nested tables."""
    few = st.integers(0, 2)
    table: dict[str, Any] = {
        "rounds": draw(st.integers(1, 3)),
        "data": draw(table_of(tables.Data, source="digits", train=60, test=20, download=False))
        | {"clients": draw(st.integers(1, 4))},
        "model": draw(table_of(tables.Model))
        | {"name": draw(st.sampled_from(["mlp", "lenet", "convnet", "resnet8"])), "width": 4},
        "engine": draw(table_of(tables.Engine, name="in-process", device="cpu")),
        "training": draw(table_of(tables.Training)),
        "defenses": [draw(_plugin(DEFENSES, "name")) for _ in range(draw(few))],
    }
    if table["data"].get("partition") is None and draw(st.booleans()):
        table["data"]["partition"] = draw(st.sampled_from(["iid", "dirichlet", "classes"]))
    if draw(st.booleans()):
        table["server"] = draw(table_of(tables.Server))
        table["server"]["strategy"] = draw(st.sampled_from(sorted(RULES.builtin)))
    for client in range(min(draw(few), table["data"]["clients"])):
        role: dict[str, Any] = {"role": draw(st.sampled_from(["honest", "leaking", "poisoning"]))}
        role |= {"clients": client}
        if role["role"] == "poisoning" and draw(st.booleans()):
            role["data"] = draw(_plugin(POISONS, "attack"))
        if role["role"] == "poisoning" and draw(st.booleans()):
            role["update"] = draw(_plugin(UPDATE_ATTACKS, "attack"))
        table.setdefault("roles", []).append(role)
    if draw(st.integers(0, 3)) == 0:
        table["reconstructions"] = [draw(table_of(tables.Reconstruct))]
    for key, kind in (("privacy", tables.Privacy), ("captures", tables.Captures)):
        if draw(st.integers(0, 3)) == 0:
            table[key] = draw(table_of(kind))
    if draw(st.integers(0, 29)) == 17:
        table[draw(st.sampled_from(["name", "seed", "rounds", "metrics", "audit", "roles"]))] = (
            draw(ODD)
        )
    return table
