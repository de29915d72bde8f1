"""The built-in plug-ins and their settings, from their classes and functions."""

import inspect
from collections.abc import Iterator
from typing import Any

from docs.generated.docstrings import entries, paragraphs
from docs.generated.keys import key_of
from fedlab.cli.list import REGISTRIES, preset_cells, settings_of, summary_of, with_argument
from fedlab.core.attack_plugins import PRESETS, preset
from fedlab.core.plugins import Plugin, Registry, load

SECTIONS = {
    "defenses": "Defenses: `[[defenses]]`",
    "poisons": "Poisons of data: `data` of a poisoning role",
    "updates": "Attacks on updates: `update` of a poisoning role",
    "rules": "Aggregation rules: `server.strategy`",
    "presets": "Presets of the reconstruction: `reconstructions.preset`",
    "attacks": "Methods of reconstruction: `reconstructions.method`",
    "objectives": "Objectives: `reconstructions.objective`",
    "priors": "Priors: `reconstructions.priors`",
    "labels": "Label rules: `reconstructions.label_rule`",
    "metrics": "Metrics: `metrics`",
    "models": "Networks: `model.name`",
    "datasets": "Data sets: `data.source`",
    "partitions": "Partitions: `data.partition`",
    "trackers": "Trackers: `trackers`",
}
"""Heading of each kind of ``fedlab list``, in the order of the page."""

_OPTIONS = "server.options"
"""Key whose table has the settings of an aggregation rule."""

_SCHEDULED = frozenset({"rounds", "clients"})
"""Keys of every defense, which the page states once."""


def markdown() -> str:
    """Every built-in plug-in of every kind, for the reference."""
    parts = []
    for kind, title in SECTIONS.items():
        parts.append(f"## {title}\n")
        parts += _presets() if kind == "presets" else _section(kind)
    return "\n".join(parts)


def _section(kind: str) -> Iterator[str]:
    registry: Registry[Any] = load(REGISTRIES[kind], what=kind)
    for name in registry.builtin:
        plugin = registry.get(name)
        if isinstance(plugin, type) and issubclass(plugin, Plugin):
            yield f"### `{name}`\n"
            yield from (f"{each}\n" for each in paragraphs(plugin.__doc__))
            yield from _keys(f"{kind}.{name}", plugin)
        elif kind == "rules":
            yield f"### `{name}`\n"
            yield from (f"{each}\n" for each in _about(plugin))
            yield from _options(plugin)
        else:
            settings = ", ".join(f"`{key}`" for key in settings_of(plugin))
            with_settings = f" With {settings}." if settings else ""
            yield f"`{with_argument(name, plugin)}`\n: {summary_of(plugin)}{with_settings}\n"


def _keys(path: str, plugin: type[Plugin]) -> Iterator[str]:
    for name, field in plugin.model_fields.items():
        if name != plugin.tag and name not in _SCHEDULED:
            yield key_of(f"{path}.{name}", field).markdown


def _options(rule: type[Any]) -> Iterator[str]:
    """Settings of an aggregation rule, with the texts of its own docstring or its base's."""
    texts: dict[str, str] = {}
    for base in reversed(inspect.getmro(rule)):
        texts |= entries(base.__doc__, "Parameters") | entries(base.__doc__, "Args")
    for name, default in settings_of(rule).items():
        shown = "not set" if default is None else f"`{str(default).lower()}`"
        yield f"`{_OPTIONS}.{name}`, *default* {shown}\n: {texts[name]}\n"


def _about(rule: type[Any]) -> list[str]:
    """Paragraphs about a rule; of Flower's the first two, since the rest is no Markdown."""
    found = paragraphs(rule.__doc__)
    return found[:2] if rule.__module__.startswith("flwr.") else found


def _presets() -> Iterator[str]:
    for name in PRESETS.builtin:
        settings, source = preset_cells(preset(name))
        yield f"`{name}`\n: {settings}. {source}\n"
